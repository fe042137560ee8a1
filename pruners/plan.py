"""Plans: what pruning will do to a network, as a readable file that people may edit.

    Plan.load(path).removals(net)     the units to remove from another checkpoint of the same shape

A plan names axes and tensors, never positions in a traversal, so it replays on any checkpoint of
the same architecture. It holds no weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from graphs.tools.files import write_text
from pruners.solvers.matrix import matrix_shape
from pruners.solvers.zeros import MaskPattern
from pruners.targets import Target

if TYPE_CHECKING:
    from graphs import Network

FORMAT = 1
CHANNELS = "channels"
BLOCKS = "blocks"
SHAPES = (CHANNELS, BLOCKS)
"""Patterns that leave fewer units; the others are those of factors and of masks."""
LOW_RANK = "low-rank"
SPARSE = "sparse"


class PlanError(ValueError):
    """A plan that cannot be read, or that does not fit the network."""


def factors_of(pattern: str) -> bool:
    """Whether a pattern replaces weights by factors: "low-rank", "sparse+low-rank", ..."""
    return pattern == LOW_RANK or pattern.endswith(f"+{LOW_RANK}")


def mask_of(pattern: str) -> MaskPattern | None:
    """The pattern of the masks that one consists of or brings along; None where there are none.

        "2:4" and "2:4+low-rank" → 2:4,  "sparse+low-rank" → unstructured,  "low-rank" → None

    Raises:
        ValueError: an unknown pattern.
    """
    if pattern in (*SHAPES, LOW_RANK):
        return None
    mask = pattern.removesuffix(f"+{LOW_RANK}")
    return MaskPattern.parse("unstructured" if mask == SPARSE and mask != pattern else mask)


@dataclass(frozen=True)
class Kept:
    """The units of one axis that stay.

    Args:
        of: number of units the axis has before pruning.
        keep: indices that stay, ascending, at least one.
    """

    of: int
    keep: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What is kept, and what was asked; `Plan.from_json(plan.to_json()) == plan`.

    Args:
        pattern: "channels", "blocks", "unstructured", "row", "N:M", "low-rank", or a mask beside
            low rank, "sparse+low-rank" and "N:M+low-rank".
        solver: name of the solver that sets masks and weights.
        budget: name of the rule that divided the budget.
        asked: the target, as `Target.parse` reads it.
        achieved: metric → value that this plan reaches.
        kept: axis name → units that stay; axes that are not named stay whole.
        density: tensor name → kept share; tensors that are not named stay dense.
        rank: tensor name → rank of its factors; with a density as well, of those beside its mask.
        dropped: names of residual branches that go whole.
        provenance: versions, seed, fingerprints; free, for people.
    """

    pattern: str
    solver: str
    budget: str
    asked: Mapping[str, str | int | float] = field(default_factory=dict)
    achieved: Mapping[str, float] = field(default_factory=dict)
    kept: Mapping[str, Kept] = field(default_factory=dict)
    density: Mapping[str, float] = field(default_factory=dict)
    rank: Mapping[str, int] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        mask_of(self.pattern)
        if self.asked:
            Target.parse(self.asked)
        for axis, kept in self.kept.items():
            _check_kept(axis, kept)
        for tensor, share in self.density.items():
            if not _is_number(share) or not 0 <= share <= 1:
                raise PlanError(
                    f'density of "{tensor}" must be a kept share from 0 to 1 (got {share!r})'
                )
        for tensor, rank in self.rank.items():
            if not _is_int(rank) or rank < 1:
                raise PlanError(f'rank of "{tensor}" must be at least 1 (got {rank!r})')

    @staticmethod
    def keeping(net: Network, kept: Mapping[str, torch.Tensor]) -> dict[str, Kept]:
        """The `kept` field for indices as `units.select` returns them; whole axes left out."""
        return {
            axis: Kept(net.axes[axis].size, tuple(indices.tolist()))
            for axis, indices in kept.items()
            if indices.numel() < net.axes[axis].size
        }

    def check(self, net: Network) -> None:
        """Refuse a network that the plan does not fit.

        Raises:
            PlanError: an axis or tensor that is missing, of another size, or frozen; with a remedy.
        """
        for name, kept in self.kept.items():
            if name not in net.axes:
                raise PlanError(
                    f'the plan prunes axis "{name}", which this network does not have; replay a '
                    "plan on the architecture it was made for, or delete the entry"
                )
            axis = net.axes[name]
            if axis.size != kept.of:
                raise PlanError(
                    f'the plan was made for {kept.of} units on axis "{name}", this network has '
                    f"{axis.size}; make a new plan for this width"
                )
            if axis.frozen is not None and len(kept.keep) < axis.size:
                raise PlanError(
                    f'the plan prunes axis "{name}", which cannot be pruned here: {axis.frozen}; '
                    "delete the entry"
                )
        blocks = {block.name for block in net.blocks()} if self.dropped else set()
        for name in self.dropped:
            if name not in blocks:
                raise PlanError(
                    f'the plan drops block "{name}", which this network does not have; replay a '
                    "plan on the architecture it was made for, or delete the entry"
                )
        for name in self.density:
            if name not in net.tensors:
                raise PlanError(
                    f'the plan thins out tensor "{name}", which this network does not have; '
                    "replay a plan on the architecture it was made for, or delete the entry"
                )
        for name, rank in self.rank.items():
            if name not in net.tensors:
                raise PlanError(
                    f'the plan factors tensor "{name}", which this network does not have; replay '
                    "a plan on the architecture it was made for, or delete the entry"
                )
            most = min(matrix_shape(net, name))
            if rank > most:
                raise PlanError(
                    f'the plan gives "{name}" rank {rank}, its matrix has rank {most} at most; '
                    "delete the entry to leave it dense"
                )

    def sizes(self) -> dict[str, int]:
        """Axis name → units that stay, for the axes the plan names."""
        return {axis: len(kept.keep) for axis, kept in self.kept.items()}

    def keeps(self, net: Network) -> dict[str, torch.Tensor]:
        """Axis name → kept indices (int64, ascending), after `check`."""
        self.check(net)
        return {axis: torch.tensor(kept.keep) for axis, kept in self.kept.items()}

    def removals(self, net: Network) -> dict[str, torch.Tensor]:
        """Axis name → indices to hand to `net.remove`, after `check`."""
        return {
            axis: torch.tensor(sorted(set(range(net.axes[axis].size)).difference(kept.tolist())))
            for axis, kept in self.keeps(net).items()
            if kept.numel() < net.axes[axis].size
        }

    def carry_out(self, net: Network) -> Network:
        """The network without the blocks and units that go, after `check`."""
        removals = self.removals(net)
        shorter = net.drop(self.dropped)
        # Axes of a block that went are gone with it.
        return shorter.remove({a: gone for a, gone in removals.items() if a in shorter.axes})

    def to_json(self) -> str:
        """Readable JSON, the same text for the same plan."""
        content: dict[str, Any] = {"format": FORMAT}
        for entry in fields(self):
            content[entry.name] = getattr(self, entry.name)
        content["dropped"] = list(self.dropped)
        content["kept"] = {
            axis: {"of": kept.of, "keep": list(kept.keep)} for axis, kept in self.kept.items()
        }
        return _layout(content) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan, edited or not.

        Raises:
            PlanError: not JSON, unknown or missing keys, indices out of range; says where.
        """
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise PlanError(
                f"the plan is not valid JSON: {error.msg} (line {error.lineno}, column "
                f"{error.colno})"
            ) from error
        known = [entry.name for entry in fields(cls)]
        _check_keys("the plan", content, required=("pattern", "solver", "budget"), known=known)
        if content.pop("format", FORMAT) != FORMAT:
            raise PlanError(f"this version reads plans of format {FORMAT}; make a new plan")
        for key in ("asked", "achieved", "kept", "density", "rank", "provenance"):
            if not isinstance(content.get(key, {}), dict):
                raise PlanError(f'"{key}" of the plan must be an object (got {content[key]!r})')
        kept = {}
        for axis, entry in content.pop("kept", {}).items():
            _check_keys(f'kept axis "{axis}"', entry, ("of", "keep"), ("of", "keep"))
            if not isinstance(entry["keep"], list):
                raise PlanError(f'"keep" of axis "{axis}" must be a list of indices')
            kept[axis] = Kept(entry["of"], tuple(entry["keep"]))
        dropped = content.pop("dropped", [])
        if not isinstance(dropped, list) or not all(isinstance(name, str) for name in dropped):
            raise PlanError(f'"dropped" of the plan must be a list of names (got {dropped!r})')
        try:
            return cls(kept=kept, dropped=tuple(dropped), **content)
        except PlanError:
            raise
        except ValueError as error:
            raise PlanError(f"the plan cannot be used: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan; a failure leaves what was at `path` as it was."""
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan from a file; see `from_json`."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except PlanError as error:
            raise PlanError(f"{path}: {error}") from error


def _check_kept(axis: str, kept: Kept) -> None:
    if not _is_int(kept.of) or kept.of < 1:
        raise PlanError(f'"of" of axis "{axis}" must be its number of units (got {kept.of!r})')
    if not kept.keep:
        raise PlanError(f'axis "{axis}" would be left without units; keep at least one')
    last = -1
    for index in kept.keep:
        if not _is_int(index) or not 0 <= index < kept.of:
            raise PlanError(
                f'axis "{axis}" has units 0 to {kept.of - 1}, so {index!r} cannot be kept'
            )
        if index <= last:
            raise PlanError(
                f'"keep" of axis "{axis}" must be ascending without repeats ({index} comes after '
                f"{last})"
            )
        last = index


def _check_keys(where: str, content: object, required: Sequence[str], known: Sequence[str]) -> None:
    if not isinstance(content, dict):
        raise PlanError(f"{where} must be an object (got {type(content).__name__})")
    unknown = sorted(set(content) - set(known) - {"format"})
    if unknown:
        raise PlanError(f'{where} has the unknown key "{unknown[0]}": expected {", ".join(known)}')
    missing = [key for key in required if key not in content]
    if missing:
        raise PlanError(f'{where} lacks the key "{missing[0]}"')


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _layout(value: Any, indent: str = "") -> str:
    """JSON with one entry a line; an object that holds a list stays on one line, for long lists."""
    if not isinstance(value, Mapping):
        return json.dumps(value, allow_nan=False)
    if not value or (indent and any(isinstance(entry, list) for entry in value.values())):
        return json.dumps(dict(value), allow_nan=False)
    inner = indent + "  "
    lines = [f"{inner}{json.dumps(key)}: {_layout(entry, inner)}" for key, entry in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
