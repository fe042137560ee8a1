"""Networks by the name of their architecture: the benchmarks' own, or a family of the zoo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from graphs.calls.running import seeded
from graphs.tools.registry import unknown
from training.config import called
from training.networks.registry import ARCHITECTURES
from training.sources.building import with_checkpoint
from training.sources.registry import source
from training.zoo import FAMILIES, Spec, build


@source("family")
def from_family(
    *,
    family: str,
    options: Mapping[str, Any] | None = None,
    shape: tuple[int, ...] | None = None,
    outputs: int | None = None,
    path: str | None = None,
    seed: int = 0,
) -> nn.Module:
    """Build a named architecture, and load a checkpoint into it.

    Args:
        family: `cifar_resnet`, or a family of the zoo.
        options: of the architecture.
        shape, outputs: of inputs and outputs, for families of the zoo.
        path: checkpoint, .th, .pt or .safetensors; initial weights when None.
        seed: of the initial weights.

    Raises:
        ValueError: an unknown family, options that it does not take, or a checkpoint that does not
            fit.
    """
    options = dict(options or {})
    if family not in (*ARCHITECTURES, *FAMILIES):
        raise ValueError(unknown("family", family, (*ARCHITECTURES, *FAMILIES)))
    if family in ARCHITECTURES:
        with seeded(seed):
            model = called(ARCHITECTURES[family], options, f"model {family!r}")
    else:
        if shape is None or outputs is None:
            raise ValueError(f"family {family!r} of the zoo needs `shape` and `outputs`")
        model = build(Spec(family, options, tuple(shape), outputs, seed))
    return with_checkpoint(model, path)
