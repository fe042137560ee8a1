"""Transformation "auto": the one that loses least on examples left out, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from pruners.budgets import maskable
from pruners.curves import ExpectedLoss
from pruners.curves.trial import Judge, left_out
from pruners.statistics import NoCurvatureError
from pruners.transformations.base import Found, Request, Transformation, transformation
from pruners.transformations.permute import Permute
from pruners.transformations.rotate import Rotate

NONE = "none"
"""The way that leaves a network as it is."""


ROUNDS = 2
"""Solutions before a way is judged, as many as masks get by default: one ranks ways otherwise."""


@transformation("auto")
@dataclass(frozen=True)
class Auto:
    """No transformation, a rotation, for N:M a rotation and an order: each is found on a part of
    the calibration, pruned with equal shares in order, and judged on the rest; the best one is then
    found on all of it. Without calibration, or where outputs are no scores, nothing is changed.

    Args:
        descent: steps of the rotation; see `pruners.transformations.rotate.Rotate`.
    """

    descent: int = 100

    def find(self, request: Request) -> Found:
        """See `pruners.transformations.base.Transformation`."""
        if not request.batches:
            return Found(notes=("Nothing was transformed: there is no calibration to judge by.",))
        measuring, judging = left_out(request.batches)
        try:
            judge = Judge(request.model, judging)
        except NoCurvatureError as error:
            return Found(notes=(f"Nothing was transformed: {error}",))
        part = replace(request, batches=measuring)
        lost = {way: judge(_masked(_found(part, each)[1])) for way, each in self._ways(part)}
        best = min(lost, key=lambda way: lost[way])
        found, _ = _found(request, dict(self._ways(request))[best])
        tried = {way: float(f"{value:.6g}") for way, value in lost.items()}
        listed = "; ".join(f"{way}: {value:.3g}" for way, value in tried.items())
        said = (
            f"Transformations tried on examples left out (divergence): {listed}. The least was "
            "taken."
        )
        return replace(found, notes=(said, *found.notes), figures={**found.figures, "tried": tried})

    def _ways(self, request: Request) -> list[tuple[str, Sequence[Transformation]]]:
        rotate = Rotate(self.descent)
        ways: list[tuple[str, Sequence[Transformation]]] = [(NONE, ()), ("rotate", (rotate,))]
        if request.zeros.m:
            ways.append(("rotate, permute", (rotate, Permute())))
        return ways


def _found(request: Request, each: Sequence[Transformation]) -> tuple[Found, Request]:
    """What transformations find one after the other, and the request after them."""
    found = Found()
    for one in each:
        more = one.find(request)
        found, request = found.then(more), request.after(more.moves)
    return found, request


def _masked(request: Request) -> nn.Module:
    """A network pruned with equal shares, in order."""
    names = [n for n, why in maskable(request.net, request.zeros).items() if why is None]
    expected = ExpectedLoss(request.net, request.batches, names, model=request.model)
    shares = dict.fromkeys(names, request.density)
    return expected.masked(shares, request.solver, request.zeros, ROUNDS)
