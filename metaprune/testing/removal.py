"""Removal of dead units, class of exactness by class of exactness.

exact            removal computes what zeroing computes
norm-rescaled    the same, with the rescale of the norm that `Network.remove` folds in
bias-fold        the same, with the constant folded into the biases of the consumers
norm-changed     removal computes what zeroing computes with statistics over the units that stay
data-dependent   removal runs, with outputs of the same shapes that are finite
refused          removal raises `FrozenAxisError`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from graphs import Axis, FrozenAxisError, Network
from graphs.axes.dims import kept_positions
from metaprune.testing.alterations import kill
from metaprune.testing.checking import Checked, explain, gap, search
from metaprune.testing.first_difference import first_difference
from metaprune.testing.masked_statistics import masked_statistics
from metaprune.testing.subject import Subject
from pruners.recovery.compensation import compensate_bias, input_means
from pruners.statistics.calls import Call, LinearCalls

# Of the classes whose removal is repaired by a number in the forward or a fold.
REPAIRED = 1e-9


@dataclass(frozen=True)
class Removal:
    """What removing dead units of the axes of one class did.

    Args:
        exactness: the class.
        axes: number of axes of that class with a unit to spare.
        checked: what the law found; deviations of classes without a claim are reported only.
        note: what could not be compared, and why; empty otherwise.
    """

    exactness: str
    axes: int
    checked: Checked
    note: str = ""


def removal_law(
    subject: Subject, tolerance: float, one_by_one: bool = False
) -> tuple[Removal, ...]:
    """Remove a third of the units of the axes of each class, all of a class at once.

    Args:
        subject: network and inputs.
        tolerance: of class exact; the repaired classes get at least `REPAIRED`.
        one_by_one: remove from each axis alone as well.
    """
    laws = {
        "exact": _exact,
        "norm-rescaled": _exact,
        "bias-fold": _folded,
        "norm-changed": _restated,
        "data-dependent": _runs,
    }
    found = []
    for exactness, law in laws.items():
        axes = [a for a in subject.free() if a.exactness == exactness and _spare(a)]
        if axes:
            allowed = tolerance if exactness == "exact" else max(tolerance, REPAIRED)
            found.append(law(subject, exactness, axes, allowed, one_by_one))
    return (*found, *_refused(subject))


def _spare(axis: Axis) -> int:
    return min(max(1, axis.size // 3), axis.size - axis.minimum)


def _units(axes: Sequence[Axis], generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {
        a.name: torch.randperm(a.size, generator=generator)[: _spare(a)].sort().values for a in axes
    }


def _killed(net: Network, units: Mapping[str, torch.Tensor]) -> Network:
    for name, indices in units.items():
        net = kill(net, name, indices)
    return net


def _sets(axes: list[Axis], one_by_one: bool) -> Iterator[list[Axis]]:
    yield axes
    if one_by_one and len(axes) > 1:
        yield from ([axis] for axis in axes)


def _exact(
    subject: Subject, exactness: str, axes: list[Axis], tolerance: float, one_by_one: bool
) -> Removal:
    """Removing is zeroing."""
    units = _units(axes, subject.generator)
    call = subject.same_shape()

    def deviation(chosen: Sequence[Axis]) -> float:
        gone = {axis.name: units[axis.name] for axis in chosen}
        masked = _killed(subject.net, gone)
        return gap(call(masked), subject.function(masked.remove(gone)))

    def sentence(chosen: Sequence[Axis], by: float) -> str:
        gone = {axis.name: units[axis.name] for axis in chosen}
        masked = _killed(subject.net, gone)
        where = first_difference(subject, masked, masked.remove(gone), _kept(masked, gone))
        return _explained(subject.net, chosen, by, where)

    return Removal(
        exactness, len(axes), search(_sets(axes, one_by_one), deviation, tolerance, sentence)
    )


def _folded(
    subject: Subject, exactness: str, axes: list[Axis], tolerance: float, one_by_one: bool
) -> Removal:
    """Dead units are constants; once those are in the consumers' biases, removing is zeroing."""
    units = _units(axes, subject.generator)
    call = subject.same_shape()
    notes: dict[str, str] = {}

    def deviation(chosen: Sequence[Axis]) -> float:
        gone = {axis.name: units[axis.name] for axis in chosen}
        masked = _killed(subject.net, gone)
        expected = call(masked)
        plain = gap(expected, subject.function(masked.remove(gone)))
        if plain <= tolerance:
            return plain
        kept = _kept(masked, gone)
        spread, padded, watched = constants(subject, masked, kept)
        means = input_means(masked, subject.program(masked), [_batch(subject)])
        fold = compensate_bias(masked, kept, means)
        missing = {
            **fold.uncompensated,
            **dict.fromkeys(_readers(masked, kept) - watched, "not a linear map or convolution"),
            **dict.fromkeys(padded, "next to its zero padding a fold is an average"),
        }
        notes.update(missing)
        if missing or spread > tolerance:
            return spread
        return gap(expected, subject.function(masked.replace(fold.values).remove(gone)))

    def sentence(chosen: Sequence[Axis], by: float) -> str:
        return _explained(subject.net, chosen, by, None)

    # Each alone: one consumer that cannot be folded into would hide the others.
    checked = search(iter([a] for a in axes), deviation, tolerance, sentence)
    text = "; ".join(f"not folded into {name}: {why}" for name, why in notes.items())
    return Removal(exactness, len(axes), checked, text)


def _readers(net: Network, axes: Mapping[str, Any]) -> set[str]:
    """Names of the tensors that read along some axes."""
    return {
        name for name, tensor in net.tensors.items() if not axes.keys().isdisjoint(tensor.axes_read)
    }


def constants(
    subject: Subject, masked: Network, kept: Mapping[str, torch.Tensor]
) -> tuple[float, set[str], set[str]]:
    """How much dead units vary where linear maps and convolutions read them.

    Args:
        subject: inputs and dtype.
        masked: the network with dead units.
        kept: axis → units that are not dead.

    Returns:
        Largest difference between two examples or places, relative to 1 or the largest value; the
        names of the weights that read dead units across zero padding; of all that were watched.
    """
    module = subject.program(masked)
    names = {id(value): name for name, value in module.named_parameters()}
    worst = 0.0
    padded: set[str] = set()
    watched: set[str] = set()

    def watch(call: Call) -> None:
        nonlocal worst
        name = names.get(id(call.weight))
        # Places of a transposed convolution see different taps.
        if name is None or call.transposed:
            return
        tensor, side = masked.tensors[name], call.input_dim
        index = kept_positions(tensor.dims[side], kept, masked.axes)
        if index is None:
            return
        watched.add(name)
        x = call.input.movedim(call.channel_dim, -1)
        x = x.unflatten(-1, (-1, tensor.value.shape[side]))  # (..., groups, inputs of a group)
        dead = torch.ones(x.shape[-1], dtype=torch.bool)
        dead[index] = False
        rows = x[..., dead.to(x.device)].flatten(0, -3)
        if rows.numel():
            spread = (rows - rows[:1]).abs().max() / rows.abs().max().clamp_min(1.0)
            worst = max(worst, float(spread))
            if call.padding not in (0, "valid") and any(pytree.tree_leaves(call.padding)):
                padded.add(name)

    with LinearCalls(watch):
        subject.run(module)
    return worst, padded, watched


def _restated(
    subject: Subject, exactness: str, axes: list[Axis], tolerance: float, one_by_one: bool
) -> Removal:
    """Removing is zeroing with every statistic taken over the units that stay."""
    units = _units(axes, subject.generator)
    note = ""

    def deviation(chosen: Sequence[Axis]) -> float:
        nonlocal note
        gone = {axis.name: units[axis.name] for axis in chosen}
        masked = _killed(subject.net, gone)
        small = masked.remove(gone)
        got = subject.function(small)
        try:
            expected = masked_statistics(subject, masked, small, _kept(masked, gone))
        except Exception as error:  # an operator that cannot be split
            note = f"only that it runs: {type(error).__name__}: {error}".splitlines()[0]
            return 0.0 if all(bool(v.isfinite().all()) for v in got) else float("inf")
        return gap(expected, got)

    def sentence(chosen: Sequence[Axis], by: float) -> str:
        return _explained(subject.net, chosen, by, None)

    checked = search(_sets(axes, one_by_one), deviation, tolerance, sentence)
    return Removal(exactness, len(axes), checked, note)


def _runs(
    subject: Subject, exactness: str, axes: list[Axis], tolerance: float, one_by_one: bool
) -> Removal:
    """Removing runs; by how much it differs from zeroing is reported, not judged."""
    units = _units(axes, subject.generator)
    masked = _killed(subject.net, units)
    expected, got = subject.same_shape()(masked), subject.function(masked.remove(units))
    broken = [
        f"removing units of {', '.join(units)}: an output has another shape or is not finite"
        for a, b in zip(expected, got, strict=True)
        if a.shape != b.shape or bool((a.isfinite() & ~b.isfinite()).any())
    ]
    found = Checked(gap(expected, got), 1, tuple(broken[:1]))
    return Removal(exactness, len(axes), found, "reported, not judged")


def _refused(subject: Subject) -> tuple[Removal, ...]:
    frozen = [a for a in subject.net.axes.values() if a.frozen is not None]
    broken = []
    for axis in frozen:
        try:
            subject.net.remove(axis.name, [0])
        except FrozenAxisError:
            continue
        broken.append(f"{axis.name} is frozen ({axis.frozen}), and yet a unit could be removed")
    if not frozen:
        return ()
    return (Removal("refused", len(frozen), Checked(0.0, len(frozen), tuple(broken))),)


def _kept(net: Network, gone: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    def rest(name: str) -> torch.Tensor:
        every = torch.arange(net.axes[name].size)
        return every[~torch.isin(every, gone[name])]

    return {name: rest(name) for name in gone}


def _batch(subject: Subject) -> Any:
    args, kwargs = subject.inputs
    return kwargs if kwargs else args


def _explained(net: Network, axes: Sequence[Axis], by: float, where: str | None) -> str:
    happened = f"changed the output by {by:.3g}, although the class is {axes[0].exactness}"
    hint = "what still reads these units when they are zero at every producer"
    return explain(net, axes, "removing dead units of", happened, where, hint)
