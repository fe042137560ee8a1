"""Transformation "auto": the one that loses least on examples left out, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from pruners.curves import FEWEST, Judge, damage_of, in_words, left_out, rounded
from pruners.statistics import NoCurvatureError
from pruners.transformations.base import (
    Found,
    Transformation,
    in_order,
    transformation,
)
from pruners.transformations.permute import Permute
from pruners.transformations.requests import MaskRequest, Request
from pruners.transformations.rotate import Rotate

NONE = "none"
"""The way that leaves a network as it is."""


@transformation("auto")
@dataclass(frozen=True)
class Auto:
    """No transformation, a rotation, for N:M a rotation and an order: each is found on a part of
    the calibration, pruned on trial (masks with equal shares, units by expected loss in one shot),
    and judged on the rest; the best one is then found on all of it. Without calibration, where few
    predictions are left out, or where outputs are no scores, nothing is changed.

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
        if judge.predictions < FEWEST:
            few = f"Nothing was transformed: fewer than {FEWEST} predictions are left to judge by."
            return Found(notes=(few,))
        part = replace(request, batches=measuring)
        ways = self._ways(request)
        lost = {way: damage_of(partial(_pruned, part, each), judge) for way, each in ways.items()}
        best = min(lost, key=lambda way: lost[way])
        found, _ = in_order(request, ways[best])
        tried = {way: rounded(value) for way, value in lost.items()}
        listed = "; ".join(f"{way}: {in_words(value)}" for way, value in tried.items())
        said = (
            f"Transformations tried on examples left out (divergence): {listed}. The least was "
            "taken."
        )
        return replace(found, notes=(said, *found.notes), figures={**found.figures, "tried": tried})

    def _ways(self, request: Request) -> dict[str, Mapping[str, Transformation]]:
        rotate = {"rotate": Rotate(self.descent)}
        ways: dict[str, Mapping[str, Transformation]] = {NONE: {}, "rotate": rotate}
        if isinstance(request, MaskRequest) and request.zeros.m:
            ways["rotate, permute"] = {**rotate, "permute": Permute()}
        return ways


def _pruned(part: Request, way: Mapping[str, Transformation]) -> nn.Module:
    return in_order(part, way)[1].pruned()
