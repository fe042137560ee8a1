"""Families of networks: a specification as a value, a sampler and a builder for each family.

`build(spec)` is a function of the specification alone: same spec, same weights, bit for bit.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from graphs.calls.running import seeded
from graphs.tools.documents import parse_json
from graphs.tools.registry import Registry
from training.config import from_mapping

Sampler = Callable[[random.Random, tuple[int, ...]], dict[str, Any]]
Builder = Callable[..., nn.Module]

# A width above or depth at these makes the benchmarks' own architectures: He et al.'s ResNet-20,
# 32 and 56 for CIFAR. They judge the metanetwork, so no zoo may contain them.
RESERVED_BLOCKS = ((3, 3, 3), (5, 5, 5), (9, 9, 9))
RESERVED_WIDTHS = (16, 32, 64)


@dataclass(frozen=True)
class Spec:
    """Everything that determines an untrained network.

    Args:
        family: registered name.
        options: keyword arguments of the family's builder, plain JSON values.
        shape: of one input, (C, H, W) for images or (T,) for tokens.
        outputs: number of classes or size of the vocabulary.
        seed: of the initial weights.
    """

    family: str
    options: Mapping[str, Any]
    shape: tuple[int, ...]
    outputs: int
    seed: int

    def to_json(self) -> str:
        """Return the specification as readable JSON; `from_json` is its inverse."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Parse `to_json`'s output.

        Raises:
            ValueError: if it is not a specification.
        """
        try:
            return from_mapping(cls, parse_json(text))
        except ValueError as error:
            raise ValueError(f"not the specification of a zoo member: {error}") from error


@dataclass(frozen=True)
class Family:
    """A builder `(shape, outputs, **options) -> nn.Module` and a sampler of its options."""

    name: str
    builder: Builder
    sampler: Sampler
    rank: int

    def supports(self, shape: Sequence[int]) -> bool:
        """Return whether inputs have the right rank: 3 for images, 1 for tokens."""
        return len(shape) == self.rank


FAMILIES: Registry[Family] = Registry("family")


def family(name: str, sampler: Sampler, rank: int = 3) -> Callable[[Builder], Builder]:
    """Register a builder under a name, with the sampler of its options.

    Args:
        name: of the family.
        sampler: (random generator, input shape) -> options.
        rank: of one input: 3 for images, 1 for tokens.

    Raises:
        ValueError: the name is taken.
    """

    def register(builder: Builder) -> Builder:
        FAMILIES.add(name, Family(name, builder, sampler, rank))
        return builder

    return register


def families(shape: Sequence[int] | None = None) -> tuple[str, ...]:
    """Return the registered families, sorted; with a shape, those that accept such inputs."""
    return tuple(
        name for name in sorted(FAMILIES) if shape is None or FAMILIES[name].supports(shape)
    )


def sample(
    seed: int, shape: Sequence[int], outputs: int, among: Sequence[str] | None = None
) -> Spec:
    """Draw a specification; the same seed gives the same one. Reserved networks are never drawn.

    Args:
        seed: of the drawing and of the network's initial weights.
        shape: of one input.
        outputs: number of classes or size of the vocabulary.
        among: families to choose from; all that accept the shape when None.

    Raises:
        ValueError: if a family is unknown or does not accept such inputs.
    """
    shape = tuple(shape)
    rng = random.Random(f"zoo {seed}")  # a text is hashed: neighbouring seeds are unrelated
    name = rng.choice(sorted(among) if among else families(shape))
    chosen = FAMILIES.find(name)
    if not chosen.supports(shape):
        raise ValueError(
            f"family {name!r} takes inputs of {chosen.rank} dimensions (got shape {shape})"
        )
    while True:
        spec = Spec(name, chosen.sampler(rng, shape), shape, outputs, seed)
        if not reserved(spec):
            return spec


def reserved(spec: Spec) -> bool:
    """Return whether the network is, or differs only in details from, a benchmark's network."""
    blocks, widths = spec.options.get("blocks"), spec.options.get("widths")
    return blocks is not None and (
        tuple(blocks) in RESERVED_BLOCKS and tuple(widths or ()) == RESERVED_WIDTHS
    )


def build(spec: Spec) -> nn.Module:
    """Build the network of a specification, with weights drawn from its seed.

    Raises:
        ValueError: if the family is unknown or its builder does not take these options.
    """
    builder = FAMILIES.find(spec.family).builder
    with seeded(spec.seed):
        try:
            return builder(tuple(spec.shape), spec.outputs, **spec.options)
        except TypeError as error:
            raise ValueError(f"family {spec.family!r} cannot be built: {error}") from error
