"""Permutations: those that a network declares, tried on its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import lgamma, log

import torch

from graphs import Axis, Network
from graphs.axes.dims import atoms
from metaprune.testing.alterations import permuted
from metaprune.testing.checking import Checked, explain, gap, search
from metaprune.testing.first_difference import first_difference
from metaprune.testing.subject import Subject

# Up to this many axes are permuted one by one as well, more in sets that tell any two apart.
ONE_BY_ONE = 32
Orders = dict[str, torch.Tensor]


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
