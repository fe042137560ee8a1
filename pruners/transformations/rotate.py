"""Transformation "rotate": axes turned so that little of their weights matters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import torch

from graphs.symmetries.values import Symmetry
from pruners.curves import Sides, axis_curves
from pruners.moves import Moves
from pruners.solvers.zeros import MaskPattern
from pruners.transformations.base import Found, prepared, transformation
from pruners.transformations.closed import eigenbasis
from pruners.transformations.components import components, losses, ordered, readers
from pruners.transformations.descent import Objective, descend
from pruners.transformations.evidence import sides_of
from pruners.transformations.importance import Matrices, Weight, importances
from pruners.transformations.requests import MaskRequest, Request, UnitRequest
from pruners.transformations.sites import Site, sites

if TYPE_CHECKING:
    from graphs import Network

FEWEST = 2
"""Units of an axis that can be turned."""

SHOWN = 0.75
"""Share of the features of which notes say what it loses."""


@transformation("rotate")
@dataclass(frozen=True)
class Rotate:
    r"""Every axis whose group is one of matrices is turned by a rotation, all of them together.

    The start is a closed form (`closed`). Descent makes the sum of the roots of all importances
    (`importance`) small, which concentrates importance in few weights whatever the target; for N:M
    its second half makes the importance of what goes small, of the least M − N of every group.

    Where whole units will go, the features of each axis that may be cut become components, in the
    order in which they go (`components`).

    Args:
        descent: steps of it; 0 for the closed form alone, which N:M does not gain by.
        data: whether calibration counts; without, or where there is none, weights alone do.
    """

    descent: int = 100
    data: bool = True

    def __post_init__(self) -> None:
        if self.descent < 0:
            raise ValueError(f"transform.rotate.descent must be at least 0 (got {self.descent})")

    def find(self, request: Request) -> Found:
        """See `pruners.transformations.base.Transformation`."""
        data = self.data and bool(request.batches)
        if isinstance(request, UnitRequest) and not data:
            return Found(notes=("Nothing was turned: components are found by calibration alone.",))
        net, moves = prepared(request)
        weights = request.weights(net)
        measured = sides_of(net, request.batches if data else (), weights)
        turning = _turning(net, list(measured), request)
        if not turning:
            return Found(notes=(_refusal(net),))
        if isinstance(request, UnitRequest):
            return self._components(net, moves, measured, turning)
        assert isinstance(request, MaskRequest)
        where = {axis: place for axis, (_, place) in turning.items()}
        start = {
            axis: eigenbasis(
                measured,
                place,
                _shape(net, symmetry),
                data=data,
                ones=symmetry.keeps_ones,
            )
            for axis, (symmetry, place) in turning.items()
        }
        flat = [site for place in where.values() for site in place]
        turned = {
            name: Weight.of(one, [site for site in flat if site.weight == name])
            for name, one in measured.items()
        }
        ones = frozenset(axis for axis, (symmetry, _) in turning.items() if symmetry.keeps_ones)
        found = self._descended(start, turned, request.zeros, ones)
        identity = {axis: torch.eye(m.shape[-1]).to(m).expand_as(m) for axis, m in start.items()}
        share = request.density
        before, after = (
            float(_going(turned, _single(m), share, request.zeros)) for m in (identity, found)
        )
        return Found(
            Moves.of(moves.unties, moves.folds, found),
            _notes(
                net,
                turning,
                moves,
                f"the weights that go are worth {before:.3g} before and {after:.3g} after, each by "
                "itself",
            ),
            {"single_weights": {"before": before, "after": after}},
        )

    def _components(
        self,
        net: Network,
        moves: Moves,
        measured: Mapping[str, Sides],
        turning: Mapping[str, tuple[Symmetry, list[Site]]],
    ) -> Found:
        """Features in the order in which units go; see `components`."""
        read = readers(measured, [site for _, places in turning.values() for site in places])
        turning = {axis: one for axis, one in turning.items() if axis in read}
        if not turning:
            return Found(notes=("Nothing was turned: what reads the axes was not measured.",))
        ones = frozenset(axis for axis, (symmetry, _) in turning.items() if symmetry.keeps_ones)
        start = {
            axis: components(read[axis], _shape(net, symmetry), ones=axis in ones)
            for axis, (symmetry, _) in turning.items()
        }
        found = (
            ordered({axis: read[axis] for axis in turning}, start, self.descent, ones)
            if self.descent
            else start
        )
        left = {axis: ceil(SHOWN * net.axes[axis].size) for axis in turning}
        flat = {axis: torch.zeros(net.axes[axis].size) for axis in turning}
        given = axis_curves(net, measured, turning, flat)
        before = sum(given[axis].curve.at(n) for axis, n in left.items() if axis in given)
        after = sum(float(losses(read[axis], found)[n]) for axis, n in left.items())
        told = (
            f"keeping {SHOWN:.0%} of these features was expected to lose {before:.3g} before and "
            f"is expected to lose {after:.3g} after"
        )
        return Found(
            Moves.of(moves.unties, moves.folds, found),
            _notes(net, turning, moves, told),
            {"features": {"before": before, "after": after}},
        )

    def _descended(
        self,
        start: Mapping[str, torch.Tensor],
        weights: Mapping[str, Weight],
        zeros: MaskPattern,
        ones: frozenset[str],
    ) -> dict[str, torch.Tensor]:
        """The rotations after the descent."""
        found = dict(start)
        grouped = self.descent // 2 if zeros.m else 0
        if self.descent - grouped:
            found = descend(found, _roots(weights), self.descent - grouped, ones)
        if grouped:
            found = descend(found, _groups(weights, zeros), grouped, ones)
        return found


def _roots(weights: Mapping[str, Weight]) -> Objective:
    """Σ √p: small where few weights hold all importance, as a 1-norm is."""
    tiny = torch.finfo(torch.float32).tiny

    def of(weight: Weight) -> Callable[[Matrices], torch.Tensor]:
        return lambda m: weight.importance(m).clamp_min(tiny).sqrt().sum()

    return [of(weight) for weight in weights.values() if weight.sites]


def _groups(weights: Mapping[str, Weight], zeros: MaskPattern) -> Objective:
    """Σ p over the least M − N of every group."""

    def of(weight: Weight) -> Callable[[Matrices], torch.Tensor]:
        return lambda m: _least(weight.importance(m), zeros)

    return [of(weight) for weight in weights.values() if weight.sites]


def _going(
    weights: Mapping[str, Weight], matrices: Matrices, share: float, zeros: MaskPattern
) -> torch.Tensor:
    """Σ p over the weights that go: the least of every group for N:M, else the least of all."""
    if zeros.m:
        return torch.stack([_least(p, zeros) for p in importances(weights, matrices)]).sum()
    every = torch.cat([p.flatten() for p in importances(weights, matrices)])
    return every.sort()[0][: round((1 - share) * len(every))].sum()


def _least(importance: torch.Tensor, zeros: MaskPattern) -> torch.Tensor:
    groups = importance.reshape(-1, zeros.m)
    return groups.topk(zeros.m - zeros.n, largest=False)[0].sum()


def _single(matrices: Matrices) -> dict[str, torch.Tensor]:
    return {axis: matrix.float() for axis, matrix in matrices.items()}


def _turning(
    net: Network, weights: Sequence[str], request: Request
) -> dict[str, tuple[Symmetry, list[Site]]]:
    """Axis → its symmetry and where weights turn with it, for all that a rotation changes."""
    found = {}
    for axis, symmetry in net.symmetries().items():
        if not symmetry.ready or net.axes[axis].size < FEWEST + symmetry.keeps_ones:
            continue
        if not request.concerns(net, symmetry):
            continue
        places = sites(net, symmetry, weights)
        if places:
            found[axis] = symmetry, places
    return found


def _shape(net: Network, symmetry: Symmetry) -> tuple[int, ...]:
    n = net.axes[symmetry.axis].size
    return (n, n) if symmetry.per is None else (net.axes[symmetry.per].size, n, n)


def _refusal(net: Network) -> str:
    """Why nothing was turned, the reason that holds for most axes first."""
    reasons: dict[str, list[str]] = {}
    for axis, symmetry in net.symmetries().items():
        if symmetry.blocked and net.axes[axis].frozen is None:
            reasons.setdefault(symmetry.blocked, []).append(axis)
    listed = [f"{axes[0]}: {reason}" for reason, axes in list(reasons.items())[:3]]
    return "Nothing was turned: no axis has rotations " + (
        f"({'; '.join(listed)})." if listed else "."
    )


def _notes(net: Network, turning: Mapping[str, Any], moves: Moves, told: str) -> tuple[str, ...]:
    shown = [f"{axis} ({net.axes[axis].size} features)" for axis in list(turning)[:3]]
    more = f" and {len(turning) - 3} more" if len(turning) > 3 else ""
    said = [f"Turned: {', '.join(shown)}{more}; {told}."]
    if moves.unties:
        extra = sum(net.tensors[name].value.numel() for name in moves.unties)
        said.append(
            f"Untied, so that norms could be folded: {', '.join(moves.unties)}, {extra:,} "
            "parameters more."
        )
    return tuple(said)
