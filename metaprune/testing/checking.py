"""How a law is checked: what is compared, tried set by set, found and put into words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from graphs import Axis, Network


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


def gap(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> float:
    """Largest difference of any output, relative to the largest magnitude there where above 1.

    Infinite where numbers of outputs or shapes differ, or one side is not finite and the other is.
    """
    if len(before) != len(after):
        return float("inf")
    return max((_gap(a, b) for a, b in zip(before, after, strict=True)), default=0.0)


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    if a.shape != b.shape:
        return float("inf")
    if a.numel() == 0:
        return 0.0
    if not a.is_floating_point() and not a.is_complex():
        return 0.0 if torch.equal(a, b) else float("inf")
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()):
        return float("inf")
    if not bool(finite.any()):
        return 0.0
    scale = max(1.0, float(a[finite].abs().max()))
    return float((a[finite] - b[finite]).abs().max()) / scale
