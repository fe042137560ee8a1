"""Curves of masks: what the solver itself loses, in the currency of the predictions."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from pruners.curves import Sides, mask_curves, measure_sides
from pruners.curves.masks import GRID, HELD
from pruners.solvers import build, solve, solvers_for
from pruners.solvers.two_sided import two_sided_error
from tests.pruners.recovery.test_refit import consumer
from tests.pruners.solvers.test_two_sided import ROWS, layer

KNOWING = [name for name in solvers_for(masks=True, factors=False) if build(name).needs <= HELD]
PATTERNS = ["unstructured", "row", "column:2", "block:2x4", "2:4"]


def sides(seed=0, groups=1):
    """Both sides of a random layer, of several where it has groups."""
    parts = [layer(seed + 10 * g) for g in range(groups)]
    weight, hessian, curvature = (torch.stack(part) for part in zip(*parts, strict=True))
    return Sides(weight, hessian, curvature, 300.0)


def given(one):
    """The statistics of the solvers."""
    hessian = one.hessian.mean(0).float()
    return {
        "hessian": hessian,
        "norms": hessian.diagonal().sqrt(),
        "samples": torch.tensor(one.samples),
        "curvature": torch.block_diag(*one.curvature).float(),
    }


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("solver", KNOWING)
def test_a_curve_starts_high_never_rises_and_ends_at_zero(solver, pattern):
    one = sides()
    curve = mask_curves({"w": one}, solver, pattern)["w"]
    grid = (0.25, 0.5, 0.75, 1.0) if pattern == "2:4" else GRID
    assert curve.kept == grid
    assert all(a >= b >= 0 for a, b in pairwise(curve.losses))
    assert curve.losses[-1] == 0
    assert 0 < curve.at(0.5) < curve.losses[0] <= one.energy * (1 + 1e-6)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("pattern", ["unstructured", "row"])
def test_it_is_what_the_solver_loses(pattern, groups):
    """Every group of a convolution by its own moments, though the solver sees their mean."""
    one = sides(groups=groups)
    curve = mask_curves({"w": one}, "admm", pattern, [0.3, 0.6, 1.0])["w"]
    for share in (0.3, 0.6):
        dense = one.weight.flatten(0, 1)
        found = solve("admm", dense.float(), share, pattern, statistics=given(one))
        change = (found.weight.double() - dense).unflatten(0, (groups, ROWS))
        lost = sum(
            two_sided_error(change[g], one.hessian[g], one.curvature[g]).item()
            for g in range(groups)
        )
        assert curve.at(share) == pytest.approx(lost, rel=1e-9)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_shares_of_n_of_m_are_whole_numbers_of_m(share):
    one = sides()
    curve = mask_curves({"w": one}, "admm", "2:4")["w"]
    pattern = f"{round(4 * share)}:4"
    found = solve("admm", one.weight[0].float(), None, pattern, statistics=given(one))
    lost = one.loss(found.weight.double()[None] - one.weight)
    assert curve.at(share) == pytest.approx(lost, rel=1e-9)
    assert mask_curves({"w": one}, "admm", "1:4")["w"] == curve


def test_a_solver_that_knows_the_outputs_loses_less():
    for seed in range(4):
        one = sides(seed)
        two, single = (
            mask_curves({"w": one}, "admm", two_sided=both)["w"] for both in (True, False)
        )
        assert two.at(0.3) < single.at(0.3)
        assert two.at(0.6) < single.at(0.6)


def test_the_scale_of_the_curvature_is_the_scale_of_the_curve():
    one = sides()
    larger = Sides(one.weight, one.hessian, 64 * one.curvature, one.samples)
    plain, scaled = (mask_curves({"w": s}, "admm")["w"] for s in (one, larger))
    assert scaled.losses == pytest.approx([64 * loss for loss in plain.losses], rel=1e-6)


def test_nothing_is_lost_of_a_weight_of_zeros():
    one = sides()
    nothing = Sides(0 * one.weight, one.hessian, one.curvature, one.samples)
    assert set(mask_curves({"w": nothing}, "admm")["w"].losses) == {0.0}
    unheard = Sides(one.weight, one.hessian, 0 * one.curvature, one.samples)
    assert set(mask_curves({"w": unheard}, "admm")["w"].losses) == {0.0}


def test_every_measured_weight_has_a_curve():
    model, net, x = consumer("grouped")
    measured = measure_sides(net, model, [x], ["a.weight", "b.weight"])
    found = mask_curves(measured, "wanda", grid=[0.5, 1.0])
    assert list(found) == ["a.weight", "b.weight"]
    assert all(curve.losses[0] > 0 for curve in found.values())
