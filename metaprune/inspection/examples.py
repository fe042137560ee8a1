"""Example inputs where there are no data: from shapes, or from what a transformers model says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

TOKENS = 128
"""Length of example sequences."""

REMEDY = (
    "say what the model reads: inputs=[2,3,32,32], or by name inputs.input_ids=[1,128]; or "
    "choose data, such as data=cifar10"
)


def from_shapes(shapes: Sequence[int] | Mapping[str, Sequence[int]], model: nn.Module) -> Any:
    """Random inputs of given shapes, on the model's device.

    Args:
        shapes: of one tensor, or name → shape. Names that end in `_ids` or `_mask` are whole
            numbers, 0 and 1; the others are normal numbers in the model's dtype.
        model: for its device and dtype.

    Raises:
        ValueError: a shape that is none.
    """
    if isinstance(shapes, Mapping):
        return {str(name): _tensor(str(name), shape, model) for name, shape in shapes.items()}
    return (_tensor("input", shapes, model),)


def from_model(model: nn.Module) -> dict[str, Tensor]:
    """Inputs of a transformers model, after its configuration.

    Raises:
        ValueError: the model does not say what it reads.
    """
    config: Any = getattr(model, "config", None)
    name = getattr(model, "main_input_name", None)
    if config is None or name is None:
        raise ValueError(REMEDY)
    shape = _shape(name, config, getattr(config, "vision_config", config))
    if shape is None:
        raise ValueError(f"{type(model).__name__} reads {name!r}, of a shape not known; {REMEDY}")
    shapes = {name: shape}
    if getattr(config, "is_encoder_decoder", False):
        shapes["decoder_input_ids"] = (1, min(TOKENS, shape[-1]) if name == "input_ids" else 16)
    return {key: _tensor(key, value, model) for key, value in shapes.items()}


def _shape(name: str, config: Any, vision: Any) -> tuple[int, ...] | None:
    if name == "input_ids":
        most = getattr(config, "max_position_embeddings", None) or TOKENS
        return (1, min(TOKENS, most))
    if name == "pixel_values" and hasattr(vision, "num_channels"):
        size = getattr(vision, "image_size", 224)
        height, width = size if isinstance(size, list | tuple) else (size, size)
        return (1, vision.num_channels, height, width)
    if name == "input_features" and hasattr(config, "num_mel_bins"):
        return (1, config.num_mel_bins, 2 * getattr(config, "max_source_positions", 1500))
    return (1, 16000) if name == "input_values" else None


def _tensor(name: str, shape: Sequence[int], model: nn.Module) -> Tensor:
    sizes = list(shape) if isinstance(shape, Sequence) else []
    if not sizes or not all(isinstance(n, int) and n > 0 for n in sizes):
        raise ValueError(f"the shape of {name!r} must be a list of sizes (got {shape!r}); {REMEDY}")
    tensors = [*model.parameters(), *model.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    generator = torch.Generator().manual_seed(0)
    if name.endswith(("_ids", "_mask")):
        values = torch.ones(sizes, dtype=torch.int64)
    else:
        dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
        values = torch.randn(sizes, generator=generator).to(dtype)
    return values.to(device)
