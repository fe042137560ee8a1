"""What torch's own layers say about the shapes of their tensors, read from the tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from torch import nn

Read = Callable[[Any], Any]


def _normalized(module: Any) -> Any:
    return None if module.weight is None else tuple(module.weight.shape)


_GATES = {"LSTM": 4, "GRU": 3}

# Of a class and its subclasses; the first that fits counts.
_FIELDS: tuple[tuple[type[nn.Module], dict[str, Read]], ...] = (
    (
        nn.Linear,
        {
            "in_features": lambda m: m.weight.shape[1],
            "out_features": lambda m: m.weight.shape[0],
        },
    ),
    (
        nn.Bilinear,
        {
            "out_features": lambda m: m.weight.shape[0],
            "in1_features": lambda m: m.weight.shape[1],
            "in2_features": lambda m: m.weight.shape[2],
        },
    ),
    (
        nn.Embedding,
        {
            "num_embeddings": lambda m: m.weight.shape[0],
            "embedding_dim": lambda m: m.weight.shape[1],
        },
    ),
    (
        nn.EmbeddingBag,
        {
            "num_embeddings": lambda m: m.weight.shape[0],
            "embedding_dim": lambda m: m.weight.shape[1],
        },
    ),
    (
        nn.modules.conv._ConvTransposeNd,
        {
            "in_channels": lambda m: m.weight.shape[0],
            "out_channels": lambda m: m.weight.shape[1] * m.groups,
        },
    ),
    (
        nn.modules.conv._ConvNd,
        {
            "in_channels": lambda m: m.weight.shape[1] * m.groups,
            "out_channels": lambda m: m.weight.shape[0],
        },
    ),
    (
        nn.modules.batchnorm._NormBase,
        {
            "num_features": lambda m: next(
                (t.shape[0] for t in (m.weight, m.running_mean) if t is not None), None
            )
        },
    ),
    (
        nn.GroupNorm,
        {"num_channels": lambda m: None if m.weight is None else m.weight.shape[0]},
    ),
    (nn.LayerNorm, {"normalized_shape": _normalized}),
    (nn.RMSNorm, {"normalized_shape": _normalized}),
    (nn.PReLU, {"num_parameters": lambda m: m.weight.shape[0]}),
    (
        nn.MultiheadAttention,
        {
            "embed_dim": lambda m: m.out_proj.weight.shape[0],
            "kdim": lambda m: m.embed_dim if m.k_proj_weight is None else m.k_proj_weight.shape[1],
            "vdim": lambda m: m.embed_dim if m.v_proj_weight is None else m.v_proj_weight.shape[1],
            "head_dim": lambda m: m.out_proj.weight.shape[1] // m.num_heads,
        },
    ),
    (
        nn.RNNBase,
        {
            "input_size": lambda m: m.weight_ih_l0.shape[1],
            "hidden_size": lambda m: m.weight_ih_l0.shape[0] // _GATES.get(m.mode, 1),
            "proj_size": lambda m: m.weight_hh_l0.shape[1] if m.proj_size else 0,
        },
    ),
    (
        nn.RNNCellBase,
        {
            "input_size": lambda m: m.weight_ih.shape[1],
            "hidden_size": lambda m: m.weight_hh.shape[1],
        },
    ),
)


def stated(module: nn.Module) -> Mapping[str, Read]:
    """Attributes of one of torch's layers that its tensors determine, and how to read them off.

    A norm without a scale has no tensor to tell its size.
    """
    reads = _fields(module.__class__)
    return {field: read for field, read in reads.items() if read(module) is not None}


@cache
def _fields(kind: Any) -> Mapping[str, Read]:
    return next((reads for base, reads in _FIELDS if issubclass(kind, base)), {})


def restate(module: nn.Module) -> Iterator[tuple[str, Any, Any]]:
    """Bring the shape attributes of one of torch's layers in line with its tensors.

    Yields:
        (field, old value, new value) of each that changed.
    """
    for field, read in stated(module).items():
        old, new = getattr(module, field), read(module)
        if old != new:
            setattr(module, field, new)
            yield field, old, new
