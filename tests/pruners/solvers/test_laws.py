"""What every solver promises, whatever it computes; and the solvers that find the mask jointly."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import reference
from pruners.solvers import (
    DEFAULT,
    SOLVERS,
    WITHOUT_CALIBRATION,
    MaskPattern,
    relative_error,
    solve,
)
from pruners.solvers.damping import damp, shrinkage
from tests.pruners.solvers.algorithms.test_formulas import problem

MASKS = ["magnitude", "wanda", "gradient-aware", "sparsegpt", "least-squares", "admm"]
PATTERNS = [
    ("unstructured", 0.37),
    ("row", 0.4),
    ("2:4", None),
    ("5:8", None),
    ("column", 0.5),
    ("column:4", 0.3),
    ("block:2x4", 0.6),
    ("block:1x8", 0.25),
]


def known(weight, hessian, samples=300):
    generator = torch.Generator().manual_seed(5)
    return {
        "hessian": hessian,
        "norms": hessian.diagonal().clamp_min(0).sqrt(),
        "gradients": 0.01 * torch.rand(weight.shape, generator=generator).to(hessian),
        "samples": torch.tensor(float(samples)),
    }


def units(mask, pattern):
    """What stays or goes together, (units that compete, lines)."""
    rows, columns = mask.shape
    if pattern == "unstructured":
        return mask.reshape(-1, 1)
    if pattern == "row":
        return mask.T
    if ":" in pattern and pattern[0].isdigit():
        return mask.reshape(-1, int(pattern.split(":")[1])).T
    height, width = MaskPattern.parse(pattern).block
    height = height or rows
    tiles = mask.reshape(rows // height, height, columns // width, width)
    assert (tiles.all(3).all(1) == tiles.any(3).any(1)).all()  # whole blocks
    return tiles[:, 0, :, 0].reshape(-1, 1)


def test_the_list_is_complete():
    assert sorted(MASKS) == sorted(name for name in SOLVERS if name in MASKS)
    assert {DEFAULT, WITHOUT_CALIBRATION} <= set(SOLVERS)


@pytest.mark.parametrize(("pattern", "density"), PATTERNS)
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_solver_keeps_every_pattern_exactly(name, pattern, density, dtype):
    weight, hessian = problem(dtype=torch.float32)
    weight = weight.to(dtype)
    found = solve(name, weight, density, pattern, statistics=known(weight, hessian))
    assert found.weight.dtype == dtype
    assert found.weight.isfinite().all()
    assert (found.weight[~found.mask] == 0).all()
    assert found.factors is None
    kept = units(found.mask, pattern)
    share = MaskPattern.parse(pattern).density(density)
    assert (kept.sum(0) == round(share * kept.shape[0])).all()
    assert found.statistics["kept"] == found.mask.sum()
    error = relative_error(weight, found.weight, hessian).item()
    assert found.statistics["error"] == pytest.approx(error, rel=2e-2, abs=1e-6)
    assert 0 < error < 0.9


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("pattern", ["unstructured", "row", "column", "block:2x4"])
def test_more_budget_never_means_more_error(name, pattern):
    weight, hessian = problem()
    given = known(weight, hessian)
    errors = [
        solve(name, weight, density, pattern, statistics=given).statistics["error"]
        for density in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    ]
    assert errors[0] == pytest.approx(1.0)
    assert errors[-1] == pytest.approx(0.0, abs=1e-12)
    assert all(more <= less for less, more in pairwise(errors))


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(MASKS),
    pattern=st.sampled_from(PATTERNS),
    rank=st.integers(1, 60),
    dead=st.integers(0, 40),
    tied=st.booleans(),
    seed=st.integers(0, 99),
)
def test_repair_never_hurts_and_degenerate_problems_are_solved(
    name, pattern, rank, dead, tied, seed
):
    """Fewer samples than inputs, inputs that are always zero, weights that are all equal."""
    weight, hessian = problem(rows=8, samples=rank, seed=seed, dtype=torch.float32)
    if tied:
        weight = torch.ones_like(weight)
    hessian[:dead], hessian[:, :dead] = 0, 0
    statistics = known(weight, hessian, samples=rank)
    bare = solve(name, weight, pattern[1], pattern[0], statistics=statistics, repair_steps=0)
    found = solve(name, weight, pattern[1], pattern[0], statistics=statistics)
    before, after = (
        relative_error(weight, s.weight, hessian).item() if dead < 40 else 0.0
        for s in (bare, found)
    )
    assert torch.equal(bare.mask, found.mask)
    assert found.weight.isfinite().all()
    assert after <= before + 1e-6


def layer(rows=64, columns=96, samples=400, seed=0, noise=1.0):
    """A weight, the Hessian of calibration inputs, and that of fresh ones."""
    generator = torch.Generator().manual_seed(seed)
    size = columns // 4

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    factors = normal(columns, size) * torch.arange(1, size + 1) ** -0.5 / 2
    units, weight = (0.5 * normal(columns, 1)).exp(), normal(rows, columns)

    def hessian(count):
        x = units * (factors @ normal(size, count) + noise * normal(columns, count))
        return x @ x.T / count

    return weight, hessian(samples), hessian(4000)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [0.1, 0.3, 1.0])
@pytest.mark.parametrize(("sparsity", "groups"), [(0.5, None), (0.7, None), (0.5, (2, 4))])
def test_the_default_is_no_worse_than_alps(sparsity, groups, noise, seed):
    """On fresh inputs as it is; on the calibration data, hardly damped, to one per cent."""
    weight, hessian, fresh = layer(seed=seed, noise=noise)
    pattern = "unstructured" if groups is None else f"{groups[0]}:{groups[1]}"
    density = None if groups else 1 - sparsity
    theirs = reference.alps(weight, hessian, sparsity, groups)
    ours, alike = (
        solve(DEFAULT, weight, density, pattern, statistics=known(weight, hessian, samples)).weight
        for samples in (400, 1e9)
    )
    assert relative_error(weight, ours, fresh) <= relative_error(weight, theirs, fresh)
    assert relative_error(weight, alike, hessian) <= 1.01 * relative_error(weight, theirs, hessian)


@pytest.mark.parametrize(("pattern", "density"), PATTERNS)
def test_alternating_directions_beat_a_mask_that_is_chosen_first(pattern, density):
    weight, hessian, fresh = layer()
    joint, first = (
        solve(name, weight, density, pattern, statistics=known(weight, hessian, 400)).weight
        for name in ("admm", "sparsegpt")
    )
    assert relative_error(weight, joint, fresh) < relative_error(weight, first, fresh)


@pytest.mark.parametrize(("pattern", "density"), [("unstructured", 0.4), ("row", 0.4)])
def test_the_joint_mask_depends_neither_on_units_nor_on_order(pattern, density):
    """Columns in other units (x·c, w/c) and in another order: the same weights stay."""
    weight, hessian = problem()
    found = solve("admm", weight, density, pattern, statistics=known(weight, hessian))
    factor = torch.logspace(-2, 2, 40, dtype=torch.float64)
    scaled = solve(
        "admm", weight / factor, density, pattern,
        statistics=known(weight, hessian * factor[:, None] * factor),
    )  # fmt: skip
    assert torch.equal(scaled.mask, found.mask)
    torch.testing.assert_close(scaled.weight * factor, found.weight)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    moved = solve(
        "admm", weight[:, order], density, pattern,
        statistics=known(weight, hessian[order][:, order]),
    )  # fmt: skip
    assert torch.equal(moved.mask, found.mask[:, order])


def test_independent_inputs_need_no_alternation():
    """Without correlation, weight times norm is the optimum, and is kept as it is."""
    weight, hessian = problem()
    hessian = hessian.diagonal().diag()
    found = solve("admm", weight, 0.5, statistics=known(weight, hessian), repair_steps=0)
    expected = solve("wanda", weight, 0.5, statistics=known(weight, hessian), repair_steps=0)
    assert torch.equal(found.mask, expected.mask)
    torch.testing.assert_close(found.weight, expected.weight)
    assert found.statistics["moved"] == 0


def test_large_matrices_are_pruned_exactly_too():
    """Their thresholds are read off a sample on the way; the last one is not."""
    weight, hessian, _ = layer(rows=1400, columns=102)
    found = solve("admm", weight, 0.31, statistics=known(weight, hessian))
    assert found.mask.sum() == round(0.31 * weight.numel())
    part = solve("admm", weight[:700], 0.31, statistics=known(weight[:700], hessian))
    assert found.statistics["error"] == pytest.approx(part.statistics["error"], rel=0.03)


def test_sparsegpt_against_the_oracle_of_the_benchmark():
    weight, hessian = problem(rows=64, columns=256, samples=1000)
    for sparsity, groups in ((0.5, None), (0.7, None), (0.5, (2, 4))):
        pattern = "unstructured" if groups is None else "2:4"
        theirs = reference.sparsegpt(weight, hessian, sparsity, groups)
        ours = solve(
            "sparsegpt",
            weight,
            None if groups else 1 - sparsity,
            pattern,
            statistics={"hessian": hessian},
            repair_steps=0,
        ).weight
        errors = [relative_error(weight, w, hessian).item() for w in (ours, theirs)]
        assert errors[0] == pytest.approx(errors[1], abs=1e-4)


def test_gradient_aware_follows_the_formula():
    weight, hessian = problem()
    samples = torch.randn(5, *weight.shape, generator=torch.Generator().manual_seed(1)).double()
    norms = hessian.diagonal().sqrt()
    statistics = {"norms": norms, "gradients": samples.square().sum(0).sqrt()}
    found = solve("gradient-aware", weight, 0.4, "row", statistics=statistics, scale=0.3)
    scores = reference.gblm_scores(weight, norms, samples, scale=0.3)
    order = scores.argsort(dim=1, descending=True)[:, :16]
    assert torch.equal(found.mask, torch.zeros_like(found.mask).scatter(1, order, True))
    assert torch.equal(found.weight, weight * found.mask)


@pytest.mark.parametrize("mask", ["magnitude", "sparsegpt"])
def test_least_squares_is_another_mask_refitted_to_the_end(mask):
    weight, hessian = problem()
    statistics = known(weight, hessian)
    base = solve(mask, weight, 0.4, statistics=statistics)
    found = solve("least-squares", weight, 0.4, statistics=statistics, mask=mask)
    assert torch.equal(found.mask, base.mask)
    assert found.statistics["error"] <= base.statistics["error"] * 1.001
    with pytest.raises(ValueError, match='unknown solver "best"'):
        solve("least-squares", weight, 0.4, statistics=statistics, mask="best")


def test_fewer_samples_are_damped_more_and_less_where_more_is_explained():
    _, hessian = problem()
    shares = [shrinkage(hessian, samples) for samples in (1, 40, 100, 400, 10**6)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == shares[1] == pytest.approx(2.5 * shares[2])
    assert shares[-1] == 0.002
    assert shrinkage(hessian, None) == shrinkage(hessian, 160)
    independent = hessian.diagonal().diag()
    assert shrinkage(independent, 400) == pytest.approx(0.1 * 1.01)
    assert shrinkage(independent, 400) > shrinkage(hessian, 400)
    assert shrinkage(torch.zeros_like(hessian), 400) > 0


def test_damping_tells_what_is_left_unexplained():
    _, hessian = problem()
    hessian[3], hessian[:, 3] = 0, 0
    found = damp(hessian.clone(), 0.05)
    expected = hessian + 0.05 * hessian.diagonal().diag()
    expected[3, 3] = 1.05
    torch.testing.assert_close(found.hessian, expected)
    torch.testing.assert_close(found.variances, 1 / expected.inverse().diagonal())
    assert found.dead.nonzero().flatten().tolist() == [3]
    scale = torch.where(found.dead, 1.0, hessian.diagonal())
    total = (expected.logdet() - scale.log().sum()) / 40
    assert found.unexplained(1.0) == pytest.approx(total.exp().item())
    assert found.unexplained(0.0) == pytest.approx(1.05)
    assert found.unexplained(0.1) > found.unexplained(0.4) == found.unexplained(1.0)
    assert found.note == ""


def test_an_indefinite_hessian_is_damped_until_it_works_and_that_is_said():
    weight, hessian = problem()
    broken = hessian - 0.05 * hessian.diagonal().diag()
    found = solve("admm", weight, 0.5, statistics={"hessian": broken}, repair_steps=0, damping=1e-3)
    assert found.statistics["damping"] > 1e-3
    assert f"damped by {found.statistics['damping']:g} of its diagonal" in found.status
    with pytest.raises(ValueError, match="not positive definite even when damped"):
        damp(hessian - 1e9 * (1 - torch.eye(40).double()), 0.01)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("column:7", "40 input columns are not a multiple of 7"),
        ("block:5x4", "24 output rows are not a multiple of 5"),
        ("block:0x4", 'unknown pattern "block:0x4"'),
        ("column:0", 'unknown pattern "column:0"'),
    ],
)
@pytest.mark.parametrize("name", ["magnitude", "sparsegpt", "admm"])
def test_matrices_that_do_not_divide_are_refused(name, pattern, words):
    weight, hessian = problem()
    with pytest.raises(ValueError, match=words):
        solve(name, weight, 0.5, pattern, statistics=known(weight, hessian))
