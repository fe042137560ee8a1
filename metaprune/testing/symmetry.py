"""Permutations: those that a network declares, tried on its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import lgamma, log

import torch

from graphs import Axis, Network
from graphs.axes.dims import atoms
from metaprune.testing.locate import first_difference
from metaprune.testing.subject import Subject, gap, permuted

# Up to this many axes are permuted one by one as well, more in sets that tell any two apart.
ONE_BY_ONE = 32
Orders = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checked:
    """What a law found.

    Args:
        deviation: largest relative difference of an output.
        count: comparisons made.
        failures: one sentence for each axis that breaks the law.
    """

    deviation: float
    count: int
    failures: tuple[str, ...] = ()

    def require(self) -> None:
        """Raise `AssertionError` with the failures, if there are any."""
        assert not self.failures, "\n".join(self.failures)


def symmetries(net: Network) -> float:
    """log₁₀ of the number of permutations that a network declares to leave its function."""
    return sum(group_size(net).values())


def group_size(net: Network) -> dict[str, float]:
    """Kind of axis → log₁₀ of the number of permutations declared for axes of that kind."""
    found: dict[str, float] = {}
    for axis in net.axes.values():
        if axis.frozen is None:
            found[axis.kind] = found.get(axis.kind, 0.0) + lgamma(axis.size + 1) / log(10)
    return found


def orders(axes: Sequence[Axis], generator: torch.Generator) -> Orders:
    """For every axis a random permutation that leaves no unit where it is (one cycle)."""
    found = {}
    for axis in axes:
        cycle = torch.randperm(axis.size, generator=generator)
        found[axis.name] = torch.empty_like(cycle).index_copy_(0, cycle, cycle.roll(-1))
    return found


def batches(axes: Sequence[Axis], one_by_one: bool | None) -> Iterator[list[Axis]]:
    """Sets of axes to permute at the same time: all, then each alone or the sets of a code.

    Of two axes that belong together and are declared apart, a set with one and without the other
    shows it for certain. There is one for any two in 2 ⌈log₂ n⌉ sets: those whose number has bit b
    set, and those whose number has not.

    Args:
        axes: all of them.
        one_by_one: each alone (True), in sets (False), or by their number (None).
    """
    if len(axes) > 1:
        yield list(axes)
    if one_by_one or (one_by_one is None and len(axes) <= ONE_BY_ONE):
        yield from ([axis] for axis in axes)
        return
    for bit in range(max(1, (len(axes) - 1).bit_length())):
        for wanted in (1, 0):
            chosen = [axis for i, axis in enumerate(axes) if i >> bit & 1 == wanted]
            if chosen:
                yield chosen


def permutation_law(subject: Subject, tolerance: float, one_by_one: bool | None = None) -> Checked:
    """Permute the declared axes, all at once and apart; the function must stay."""
    call = subject.same_shape()
    expected = call(subject.net)
    axes = subject.free()

    def deviation(chosen: Sequence[Axis]) -> float:
        order = orders(chosen, subject.generator)
        if len(chosen) == 1:
            name = chosen[0].name
            return gap(expected, call(subject.net.permute(name, order[name])))
        return gap(expected, call(permuted(subject.net, order)))

    return search(
        batches(axes, one_by_one), deviation, tolerance, lambda a, g: _sentence(subject, a, g)
    )


def search(
    sets: Iterator[list[Axis]],
    deviation: Callable[[Sequence[Axis]], float],
    tolerance: float,
    sentence: Callable[[Sequence[Axis], float], str],
) -> Checked:
    """Try sets of axes; where one fails, find the axis in it that does.

    Args:
        sets: what to try.
        deviation: of a set.
        tolerance: largest deviation that passes.
        sentence: says for people what failed.
    """
    worst, count = 0.0, 0
    for chosen in sets:
        found = deviation(chosen)
        worst, count = max(worst, found), count + 1
        if found <= tolerance:
            continue
        alone = ((axis, deviation([axis])) for axis in chosen) if len(chosen) > 1 else ()
        culprits: list[tuple[Sequence[Axis], float]] = [
            ([axis], by) for axis, by in alone if by > tolerance
        ]
        culprits = culprits or [(chosen, found)]
        worst = max(worst, *(by for _, by in culprits))
        return Checked(worst, count, tuple(sentence(*culprit) for culprit in culprits))
    return Checked(worst, count)


def silent_axes(subject: Subject, tolerance: float) -> list[str]:
    """Axes of which the permutation law could not tell that they are wrong.

    The control experiment: permute an axis in one of its tensors and not in the others, which must
    change the function. Where it never does (an output that is all zeros, integers only, a unit
    that nothing reads), the law says nothing about the axis. Axes of one tensor have no control.
    """
    call = subject.same_shape()
    expected = call(subject.net)
    silent = []
    for axis in subject.free():
        names = [
            name
            for name, tensor in subject.net.tensors.items()
            if any(axis.name in atoms(dim) for dim in tensor.dims)
        ]
        # Weights first: a bias may be too small to be seen behind a saturated unit.
        names.sort(key=lambda n: subject.net.tensors[n].role != "weight")
        moved = (
            gap(expected, call(permuted(subject.net, orders([axis], subject.generator), only=name)))
            for name in names
        )
        if len(names) > 1 and not any(by > 10 * tolerance for by in moved):
            silent.append(axis.name)
    return silent


def _sentence(subject: Subject, axes: Sequence[Axis], deviation: float) -> str:
    order = orders(axes, torch.Generator().manual_seed(0))
    where = first_difference(subject, subject.net, permuted(subject.net, order), order)
    hint = "a tensor that is missing from this group, or an operator that tells its units apart"
    happened = f"changed the output by {deviation:.3g}"
    return explain(subject.net, axes, "permuting", happened, where, hint)


def explain(
    net: Network,
    axes: Sequence[Axis],
    what: str,
    happened: str,
    where: str | None,
    hint: str,
) -> str:
    """A failure in words: the axes, their tensors, what happened, and what to look for."""
    names = [axis.name for axis in axes]
    if len(names) > 1:
        text = f"{what} {len(names)} axes together {happened}, though none of them alone does"
        return f"{text}: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
    group = next(g for g in net.groups() if g.axis.name == names[0])
    place = f"\n  the values first differ at {where}" if where else ""
    return f"{what} {names[0]} {happened}\n  group: {group}{place}\n  look for {hint}"
