"""What transformers is told about the method "metaprune": see `metaprune.saving.shapes`."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from metaprune.saving.shapes import FORMAT, METHOD, cut, placeholders


@register_quantization_config(METHOD)
class PrunedShapes(QuantizationConfigMixin):
    """What `metaprune.saving.shapes.told` says.

    Args:
        quant_method: "metaprune".
        format: of the rest.
        steps: of the chain.
        example: what the dense model is traced with.
        absent: parameters that the dense model has and the pruned one has not.

    Raises:
        ValueError: another format.
    """

    def __init__(
        self,
        quant_method: str = METHOD,
        format: int = FORMAT,
        steps: list[Any] | None = None,
        example: list[Any] | None = None,
        absent: list[str] | None = None,
    ) -> None:
        if format != FORMAT:
            raise ValueError(
                f"this model was pruned by another version of metaprune (format {format!r:.20}; "
                f"this one reads {FORMAT}): use the version that wrote it"
            )
        self.quant_method = quant_method
        self.format = format
        self.steps = steps or []
        self.example = example or [[], {}]
        self.absent = absent or []


@register_quantizer(METHOD)
class Cutter(HfQuantizer):
    """Cuts a model before its weights are read."""

    requires_calibration = True

    def _process_model_before_weight_loading(self, model: Any, **_: Any) -> nn.Module:
        config: Any = self.quantization_config
        with torch.device("cpu"):  # of the tensors of indices: around this, all are made on meta
            found = cut(model, config.steps, config.example)
        own = {name: value for name, value in vars(model).items() if name not in vars(found)}
        # The caller holds the model itself: it becomes the other one.
        vars(model).clear()
        vars(model).update({**vars(found), **own})
        expected = {f"^{re.escape(name)}$" for name in config.absent}
        model._keys_to_ignore_on_load_unexpected = {
            *(model._keys_to_ignore_on_load_unexpected or ()), *expected
        }  # fmt: skip
        whole: nn.Module = model
        return whole

    def get_state_dict_and_metadata(
        self, model: nn.Module
    ) -> tuple[dict[str, torch.Tensor] | None, dict[str, str]]:
        """What `save_pretrained` writes; None for the model's own tensors."""
        config: Any = self.quantization_config
        if not config.absent:
            return None, {}
        return {**model.state_dict(), **placeholders(config.absent)}, {}

    def is_serializable(self) -> bool:
        """`save_pretrained` writes the pruned tensors, and this method in the configuration."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Its weights are ordinary ones."""
        return True

    @property
    def is_qat_trainable(self) -> bool:
        """All of them may be trained, not only adapters."""
        return True
