"""What is remembered of a dense network: enough to report against it and to build it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from graphs import Network
from pruners import fingerprint, measure


@dataclass(frozen=True)
class Dense:
    """A dense network without its weights; plain JSON values.

    Args:
        costs: metric → value (`pruners.measure`).
        axes: name → number of units, of the axes that may be pruned.
        weights: tensor name → numbers in it, of all parameters.
        left_alone: axis name → why it cannot be pruned.
        fingerprints: of architecture and weights.
        architecture: how its module is built without a checkpoint: `{"source": {...}}` for
            `training.sources.load`, or `{"class": ..., "config": ..., "attention": ...}` for a
            transformers model; None where nobody has said.
    """

    costs: Mapping[str, int | float]
    axes: Mapping[str, int]
    weights: Mapping[str, int]
    left_alone: Mapping[str, str]
    fingerprints: Mapping[str, str]
    architecture: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, net: Network) -> Dense:
        """What is remembered of a network."""
        return cls(
            costs=measure(net),
            axes={axis.name: axis.size for axis in net.axes.values() if axis.frozen is None},
            weights={name: net.tensors[name].value.numel() for name in net.source.parameters},
            left_alone={axis.name: axis.frozen for axis in net.axes.values() if axis.frozen},
            fingerprints=fingerprint(net),
            architecture=_transformer(net.source.model),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `Dense(**found)` reads them back."""
        return asdict(self)


def is_transformer(model: nn.Module) -> bool:
    """Whether a model is of a class of transformers, with its configuration."""
    return type(model).__module__.startswith("transformers.") and hasattr(model, "config")


def _transformer(model: Any) -> dict[str, Any] | None:
    if not is_transformer(model):
        return None
    return {
        "class": type(model).__name__,
        "config": json.loads(model.config.to_json_string(use_diff=False)),
        "attention": model.config._attn_implementation,
    }
