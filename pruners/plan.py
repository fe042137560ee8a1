"""Plans: what pruning will do to a network, as a readable file that people may edit.

    Plan.load(path).removals(net)     the units to remove from another checkpoint of the same shape
    once.then(twice)                  a chain: prune, then prune the result

A plan names axes and tensors, never positions in a traversal, so it replays on any checkpoint of
the same architecture. It holds no weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from graphs.tools.documents import FileError, parse_json, read_text
from graphs.tools.files import read_tensors, write_tensors, write_text
from pruners.moves import Moves, MovesError
from pruners.solvers.matrix import matrix_shape
from pruners.targets import Target

if TYPE_CHECKING:
    from graphs import Network

FORMAT = 1
MOST_STEPS = 200
REMEDY = "make a new plan, or take a copy of it"


class PlanError(FileError):
    """A plan that cannot be read, or that does not fit the network."""


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

    A plan may have one before it, whose result it prunes; `steps` lists the chain. Everything else
    that a plan says and does (`check`, `keeps`, `carry_out`) is about its own step.

    Args:
        pattern: what goes, as it was asked for: "channels", "2:4", "low-rank", ...
        solver: name of the solver that sets masks and weights.
        budget: name of the rule that divided the budget.
        asked: the target, as `Target.parse` reads it.
        achieved: metric → value that this plan reaches.
        kept: axis name → units that stay; axes that are not named stay whole.
        density: tensor name → kept share; tensors that are not named stay dense.
        rank: tensor name → rank of its factors; with a density as well, of those beside its mask.
        dropped: names of residual branches that go whole.
        moves: what is done first, before anything goes, to a network whose function it keeps; names
            above are those of what comes out. None where nothing is.
        provenance: settings, versions, fingerprints; free, for people.
        before: the plan that is carried out first; None for one of a dense network.
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
    moves: Moves | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    before: Plan | None = None

    def __post_init__(self) -> None:
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

    @property
    def steps(self) -> tuple[Plan, ...]:
        """The plans of the chain, the first one first, each without the others."""
        earlier = () if self.before is None else self.before.steps
        return (*earlier, replace(self, before=None))

    @property
    def changes_shapes(self) -> bool:
        """Whether carrying it out gives tensors of other shapes, or others."""
        unties = self.moves is not None and bool(self.moves.unties)
        return bool(self.kept or self.rank or self.dropped or unties)

    def then(self, other: Plan) -> Plan:
        """The chain that carries out this plan, and then another on what comes out of it.

        Raises:
            PlanError: the other one is no plan.
        """
        if not isinstance(other, Plan):
            raise PlanError(
                f"a plan is followed by a plan (got {type(other).__name__}); of a result it is "
                "`result.plan`, and a file is read by `Plan.load`"
            )
        first, *rest = other.steps
        chain = replace(first, before=self)
        for step in rest:
            chain = replace(step, before=chain)
        return chain

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

    def moved(self, net: Network) -> Network:
        """The network after the moves of the plan, whose function is the same.

        Raises:
            PlanError: the network does not allow them, or their matrices are not here.
        """
        try:
            return net if self.moves is None else self.moves.apply(net)
        except MovesError as error:
            raise PlanError(str(error)) from error

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
        steps = [step._content() for step in self.steps]
        content = {"steps": steps} if self.before is not None else steps[0]
        return _layout({"format": FORMAT, **content}) + "\n"

    def _content(self) -> dict[str, Any]:
        """The step alone, as plain JSON values."""
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "before"}
        content["dropped"] = list(self.dropped)
        content["moves"] = None if self.moves is None else self.moves.to_json()
        content["kept"] = {
            axis: {"of": kept.of, "keep": list(kept.keep)} for axis, kept in self.kept.items()
        }
        return content

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan, edited or not.

        Raises:
            PlanError: not JSON, unknown or missing keys, indices out of range; says where.
        """
        try:
            content = parse_json(text)
        except ValueError as error:
            raise PlanError(f"the plan cannot be read: {error}") from error
        if isinstance(content, dict) and content.pop("format", FORMAT) != FORMAT:
            raise PlanError(f"this version reads plans of format {FORMAT}; make a new plan")
        if not isinstance(content, dict) or "steps" not in content:
            return cls._of_content(content, "the plan")
        _check_keys("the plan", content, required=("steps",), known=("steps",))
        steps = content["steps"]
        if not isinstance(steps, list) or not 0 < len(steps) <= MOST_STEPS:
            raise PlanError(f'"steps" of the plan must be a list of 1 to {MOST_STEPS} plans')
        chain, *rest = [
            cls._of_content(step, f"step {i} of the plan") for i, step in enumerate(steps, start=1)
        ]
        for step in rest:
            chain = chain.then(step)
        return chain

    @classmethod
    def _of_content(cls, content: Any, where: str) -> Plan:
        """One step from plain JSON values."""
        known = [entry.name for entry in fields(cls) if entry.name != "before"]
        _check_keys(where, content, required=("pattern", "solver", "budget"), known=known)
        content = dict(content)
        for key in ("pattern", "solver", "budget"):
            if not isinstance(content[key], str):
                raise PlanError(f'"{key}" of {where} must be a text (got {content[key]!r})')
        for key in ("asked", "achieved", "kept", "density", "rank", "provenance"):
            if not isinstance(content.get(key, {}), dict):
                raise PlanError(f'"{key}" of {where} must be an object (got {content[key]!r})')
        kept = {}
        for axis, entry in content.pop("kept", {}).items():
            _check_keys(f'kept axis "{axis}"', entry, ("of", "keep"), ("of", "keep"))
            if not isinstance(entry["keep"], list):
                raise PlanError(f'"keep" of axis "{axis}" must be a list of indices')
            kept[axis] = Kept(entry["of"], tuple(entry["keep"]))
        dropped = content.pop("dropped", [])
        if not isinstance(dropped, list) or not all(isinstance(name, str) for name in dropped):
            raise PlanError(f'"dropped" of {where} must be a list of names (got {dropped!r})')
        moves = content.pop("moves", None)
        try:
            read = None if moves is None else Moves.from_json(moves)
            return cls(kept=kept, dropped=tuple(dropped), moves=read, **content)
        except PlanError:
            raise
        except ValueError as error:
            raise PlanError(f"{where} cannot be used: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan; a failure leaves what was at `path` as it was.

        Matrices of its moves go into a file of the same name that ends in `.moves.safetensors`
        instead of `.json`.

        Raises:
            PlanError: they are not here: only the text of the plan was read.
        """
        if any(step.moves is not None and step.moves.bare for step in self.steps):
            raise PlanError(
                "the plan turns axes by matrices that are not here, so that nothing could replay "
                "what would be written; read it with Plan.load, which finds them beside the text"
            )
        tensors = {
            f"{number}/{name}": value
            for number, step in enumerate(self.steps, start=1)
            if step.moves is not None
            for name, value in step.moves.tensors.items()
        }
        # What cannot be said as text must not cost matrices of an older plan.
        text = self.to_json()
        if tensors:
            write_tensors(_beside(path), tensors)
        write_text(path, text)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan from a file, and the matrices of its moves from the one beside it.

        Raises:
            PlanError: see `from_json`; or the file beside it is missing, damaged or another one.
        """
        try:
            found = cls.from_json(read_text(path, REMEDY))
            if all(step.moves is None or not step.moves.names for step in found.steps):
                return found
            return found._holding(read_tensors(_beside(path))[0])
        except FileNotFoundError as error:
            if not Path(path).is_file():
                raise
            raise PlanError(
                f"{path}: the plan turns axes by matrices, which lie in {str(_beside(path))!r}, "
                "and there is no such file; keep the two together"
            ) from error
        except (PlanError, MovesError) as error:
            raise PlanError(f"{path}: {error}") from error
        except FileError as error:
            raise PlanError(str(error)) from error

    def _holding(self, tensors: Mapping[str, torch.Tensor]) -> Plan:
        """The chain with the matrices of its moves, named by the number of their step."""
        steps = []
        for number, step in enumerate(self.steps, start=1):
            start = f"{number}/"
            own = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
            held = None if step.moves is None else step.moves.holding(own)
            steps.append(replace(step, moves=held))
        chain, *rest = steps
        for step in rest:
            chain = chain.then(step)
        return chain


def _beside(path: str | os.PathLike[str]) -> Path:
    """Where the matrices of a plan lie; another name for every plan, "half-0.5" and "half-0.7"."""
    whole = Path(path)
    return whole.with_name(whole.name.removesuffix(".json") + ".moves.safetensors")


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
    unknown = sorted(set(content) - set(known))
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
    """JSON with one entry a line; the units of an axis stay on one line, for they are many."""
    inner = indent + "  "
    if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
        return "[\n" + ",\n".join(f"{inner}{_layout(v, inner)}" for v in value) + f"\n{indent}]"
    if not isinstance(value, Mapping):
        return json.dumps(value, allow_nan=False)
    if not value or (set(value) == {"of", "keep"}):
        return json.dumps(dict(value), allow_nan=False)
    lines = [f"{inner}{json.dumps(key)}: {_layout(entry, inner)}" for key, entry in value.items()]
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
