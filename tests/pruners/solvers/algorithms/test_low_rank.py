"""Low rank and sparse + low rank: laws, and the published formulas as oracles."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.low_rank import alternation, oats
from pruners.solvers import MaskPattern, relative_error, solve
from pruners.solvers.algorithms.low_rank import rank_for, regular, subspace
from pruners.solvers.algorithms.sparse_low_rank import refit
from pruners.solvers.two_sided import regular as weighing
from tests.pruners.solvers.algorithms.test_formulas import problem

SHAPES = [(24, 40), (40, 24), (32, 32), (1, 16), (16, 1)]


def truncated(weight, hessian, rank, damping=0.01):
    """TSVD_r(W C) C⁻¹ with C = chol(H + λ diag H), as published."""
    factor = torch.linalg.cholesky(hessian + damping * hessian.diagonal().diag())
    u, s, v = torch.linalg.svd(weight @ factor, full_matrices=False)
    cut = (u[:, :rank] * s[:rank]) @ v[:rank]
    return torch.linalg.solve_triangular(factor, cut, upper=False, left=False)


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_low_rank_is_the_published_optimum(rows, columns):
    weight, hessian = problem(rows, columns)
    for rank in range(min(rows, columns) + 1):
        found = solve(
            "low-rank", weight, None, statistics={"hessian": hessian}, rank=rank, damping=0.01
        )
        torch.testing.assert_close(found.weight, truncated(weight, hessian, rank))
        assert found.factors is not None
        assert found.factors.rank == rank == found.statistics["rank"]
        assert found.factors.left.shape == (rows, rank)
        assert found.factors.right.shape == (rank, columns)
        assert found.statistics["kept"] == rank * (rows + columns)
        assert not found.mask.any()


def test_without_a_hessian_it_is_the_truncated_svd():
    weight, _ = problem()
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    found = solve("low-rank", weight, None, rank=7)
    torch.testing.assert_close(found.weight, (u[:, :7] * s[:7]) @ v[:7])
    assert found.statistics["error"] == pytest.approx((s[7:].norm() / s.norm()).square().item())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_full_rank_is_exact_and_dtypes_stay(rows, columns, dtype):
    weight, hessian = problem(rows, columns, samples=5)  # a singular Hessian
    weight = weight.to(dtype)
    for given_hessian in ({}, {"hessian": hessian}, {"hessian": torch.zeros_like(hessian)}):
        found = solve("low-rank", weight, None, statistics=given_hessian, rank=min(rows, columns))
        assert found.weight.dtype == found.factors.left.dtype == found.factors.right.dtype == dtype
        scale = weight.double().norm()
        tolerance = {torch.bfloat16: 2e-2, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
        assert (found.weight.double() - weight.double()).norm() <= tolerance * scale


@settings(max_examples=30, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    samples=st.integers(1, 60),
    dead=st.integers(0, 40),
    iterations=st.sampled_from([0, 3]),
    seed=st.integers(0, 99),
)
def test_more_rank_is_never_more_error(shape, samples, dead, iterations, seed):
    """Fewer samples than inputs and inputs that are always zero included."""
    weight, hessian = problem(*shape, samples=samples, seed=seed)
    hessian[:dead], hessian[:, :dead] = 0, 0
    statistics = {"hessian": hessian, "samples": torch.tensor(float(samples))}
    options = {"iterations": iterations, "damping": 1e-9}
    errors = []
    for rank in range(0, min(shape) + 1, max(1, min(shape) // 6)):
        found = solve("low-rank", weight, None, statistics=statistics, rank=rank, **options)
        assert found.weight.isfinite().all()
        errors.append(relative_error(weight, found.weight, hessian).item())
    # Subspace iterations of a fixed number are near the optimum, not on it.
    slack = 1e-9 if iterations == 0 else 0.05
    assert all(more <= less + slack for less, more in pairwise(errors))
    assert errors[0] == pytest.approx(1.0) or dead >= shape[1]


def test_more_density_is_never_more_error_and_all_of_it_is_the_matrix():
    weight, hessian = problem()
    found = [
        solve("low-rank", weight, density, statistics={"hessian": hessian})
        for density in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    ]
    errors = [relative_error(weight, f.weight, hessian).item() for f in found]
    assert all(more <= less for less, more in pairwise(errors))
    assert errors[0] == pytest.approx(1.0)
    assert torch.equal(found[-1].weight, weight)
    for density, f in zip((0.1, 0.3, 0.5, 0.7, 0.9), found[1:], strict=False):
        assert f.statistics["kept"] <= density * weight.numel()
        assert f.statistics["kept"] > density * weight.numel() - sum(weight.shape)


def test_the_reported_error_is_that_of_the_damped_metric():
    weight, hessian = problem()
    found = solve("low-rank", weight, 0.5, statistics={"hessian": hessian}, damping=0.02)
    damped = hessian + 0.02 * hessian.diagonal().diag()
    error = relative_error(weight, found.weight, damped).item()
    assert found.statistics["error"] == pytest.approx(error)


def test_subspace_iteration_converges_to_the_optimum_and_warm_starts():
    weight, hessian = problem(rows=48, columns=64, samples=400)
    exact = solve("low-rank", weight, None, statistics={"hessian": hessian}, rank=10)
    errors = [exact.statistics["error"]]
    for iterations in (30, 4, 1):
        found = solve(
            "low-rank", weight, None, statistics={"hessian": hessian}, rank=10,
            iterations=iterations,
        )  # fmt: skip
        errors.append(found.statistics["error"])
    assert errors[1] == pytest.approx(errors[0], rel=1e-6)
    assert errors[2] <= 1.02 * errors[0]
    assert all(fewer >= more - 1e-12 for more, fewer in pairwise(errors))

    metric = regular(hessian, 0.01)
    start = torch.linalg.qr(exact.factors.left + 0.01).Q
    once = subspace(weight, metric, start, 1)
    cold = subspace(weight, metric, torch.linalg.qr(torch.eye(48, 10).double()).Q, 1)
    target = exact.factors.left @ exact.factors.left.T
    distance = [(basis @ basis.T - target).norm() for basis in (start, once, cold)]
    assert distance[1] < distance[0] < distance[2]


def test_ranks_fit_their_budget():
    for rows, columns in SHAPES:
        for density in (0.0, 0.2, 0.5, 0.99):
            rank = rank_for(density, rows, columns)
            assert rank * (rows + columns) <= density * rows * columns + 1e-6
            assert (rank + 1) * (rows + columns) > density * rows * columns


def test_a_convolution_is_factored_over_its_matrix_view():
    weight = torch.randn(12, 4, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    found = solve("low-rank", weight, None, rank=12)
    assert found.factors.right.shape == (12, 36)
    torch.testing.assert_close(found.weight, weight)


@pytest.mark.parametrize(
    ("density", "pattern", "options", "words"),
    [
        (0.5, "2:4", {}, "low-rank places no zeros, so 2:4 does not apply"),
        (0.5, "unstructured", {"rank": 3}, "the rank is given"),
        (None, "unstructured", {"rank": 25}, "at most rank 24"),
        (None, "unstructured", {}, "density is the share"),
        (None, "unstructured", {"rank": -1}, "rank must be at least 0"),
        (None, "unstructured", {"iterations": -1}, "iterations must be at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(density, pattern, options, words):
    weight, hessian = problem()
    with pytest.raises(ValueError, match=words):
        solve("low-rank", weight, density, pattern, statistics={"hessian": hessian}, **options)


PATTERNS = [("unstructured", 0.5), ("row", 0.4), ("2:4", None), ("3:8", 0.5), ("block:2x4", 0.5)]
METRICS = ["diagonal", "hessian"]


def known(hessian, samples=300):
    norms = hessian.diagonal().clamp_min(0).sqrt()
    return {"hessian": hessian, "norms": norms, "samples": torch.tensor(float(samples))}


def both(weight, density, hessian, pattern="unstructured", samples=300, **options):
    statistics = known(hessian, samples)
    return solve("sparse+low-rank", weight, density, pattern, statistics=statistics, **options)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("pattern", "density"), PATTERNS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_parts_make_the_weight_and_fit_the_pattern(metric, pattern, density, dtype):
    weight, hessian = problem(rows=32, columns=48, dtype=torch.float32)
    weight = weight.to(dtype)
    found = both(weight, density, hessian, pattern, metric=metric, rank_share=0.3)
    left, right = found.factors.left, found.factors.right
    assert found.weight.dtype == left.dtype == right.dtype == dtype
    assert left.shape == (32, found.factors.rank)
    assert right.shape == (found.factors.rank, 48)
    off_mask = (found.weight.double() - left.double() @ right.double())[~found.mask]
    assert off_mask.abs().max() <= 8 * torch.finfo(dtype).eps * weight.abs().max()

    sizes = MaskPattern.parse(pattern)
    rank, share = found.statistics["rank"], (found.statistics["sparse"] / weight.numel())
    total = share / 0.7 if density is None else density
    unit = 32 if pattern == "row" else 8  # S is whole blocks, or as many in every row
    assert abs(found.statistics["kept"] - total * weight.numel()) <= max(unit, 32 + 48)
    if sizes.m:
        groups = found.mask.reshape(-1, sizes.m).sum(1)
        assert (groups == sizes.n).all()
        assert rank == rank_for(total - sizes.n / sizes.m, 32, 48)
    else:
        assert rank == rank_for(0.3 * density, 32, 48)
        assert torch.equal(found.mask, sizes.top(found.mask.float(), share))
    assert found.mask.sum() == found.statistics["sparse"]
    measured = hessian if metric == "hessian" else hessian.diagonal().diag()
    error = relative_error(weight, found.weight, measured).item()
    assert found.statistics["error"] == pytest.approx(error, rel=2e-2, abs=1e-6)
    assert 0 < error < 0.3


@pytest.mark.parametrize(("density", "seed"), [(0.5, 0), (0.5, 1), (0.3, 2), (0.2, 3)])
def test_errors_are_not_above_the_published_formulas(density, seed):
    weight, hessian = problem(rows=40, columns=64, samples=1000, seed=seed)
    diagonal = hessian.diagonal().diag()
    ours = both(weight, density, hessian, metric="diagonal", samples=1000)
    theirs = oats(weight, hessian.diagonal().sqrt(), density)
    assert ours.statistics["error"] <= relative_error(weight, theirs, diagonal)
    ours = both(weight, density, hessian, samples=1000)
    theirs = alternation(weight, hessian, density)
    assert ours.statistics["error"] <= relative_error(weight, theirs, hessian)
    fresh = problem(rows=40, columns=64, samples=4000, seed=seed)[1]
    assert relative_error(weight, ours.weight, fresh) <= relative_error(weight, theirs, fresh)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("pattern", ["unstructured", "row", "2:4"])
def test_more_rank_beside_the_same_s_is_never_more_error(metric, pattern):
    weight, hessian = problem(rows=32, columns=48)
    density = None if pattern == "2:4" else 0.3
    errors = [
        both(weight, density, hessian, pattern, metric=metric, rank=rank).statistics
        for rank in (0, 2, 4, 8, 16, 24, 32)
    ]
    assert [e["rank"] for e in errors] == [0, 2, 4, 8, 16, 24, 32]
    assert len({e["sparse"] for e in errors}) == 1
    assert all(more["error"] <= less["error"] for less, more in pairwise(errors))
    assert errors[-1]["error"] < 1e-20


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("rank", [None, 3])
def test_more_density_is_never_more_error(metric, rank):
    weight, hessian = problem(rows=32, columns=48)
    densities = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
    found = [both(weight, d, hessian, metric=metric, rank=rank) for d in densities]
    errors = [f.statistics["error"] for f in found]
    assert all(more <= less for less, more in pairwise(errors))
    assert torch.equal(found[-1].weight, weight)
    if rank is None:
        assert errors[0] == pytest.approx(1.0)
        kept = [f.statistics["kept"] for f in found]
        assert kept == [round(d * weight.numel()) for d in densities]
    else:
        metric_of = hessian if metric == "hessian" else hessian.diagonal().diag()
        alone = solve("low-rank", weight, None, statistics={"hessian": metric_of}, rank=3)
        assert errors[0] == pytest.approx(alone.statistics["error"], rel=0.05)


@settings(max_examples=30, deadline=None)
@given(
    metric=st.sampled_from(METRICS),
    pattern=st.sampled_from(PATTERNS),
    shape=st.sampled_from([(16, 40), (48, 24), (2, 16)]),
    rank=st.sampled_from([None, 0, 1, 2]),
    samples=st.integers(1, 60),
    dead=st.integers(0, 40),
    seed=st.integers(0, 99),
)
def test_degenerate_problems_are_solved(metric, pattern, shape, rank, samples, dead, seed):
    """Singular Hessians, inputs that are always zero (all of them, too), no rank and all of it."""
    weight, hessian = problem(*shape, samples=samples, seed=seed, dtype=torch.float32)
    hessian[:dead], hessian[:, :dead] = 0, 0
    density = None if MaskPattern.parse(pattern[0]).m else pattern[1]
    found = both(weight, density, hessian, pattern[0], samples, metric=metric, rank=rank)
    assert found.weight.isfinite().all()
    assert found.factors.left.isfinite().all()
    assert found.factors.right.isfinite().all()
    assert 0 <= found.statistics["error"] < 1
    if rank == min(shape):
        torch.testing.assert_close(found.weight, weight, rtol=1e-4, atol=1e-4)


def test_without_rank_the_diagonal_is_wanda():
    weight, hessian = problem()
    found = both(weight, 0.4, hessian, metric="diagonal", rank=0)
    wanda = solve("wanda", weight, 0.4, statistics=known(hessian), repair_steps=0)
    assert torch.equal(found.mask, wanda.mask)
    torch.testing.assert_close(found.weight, wanda.weight)


def test_without_rank_the_hessian_is_alternating_directions():
    weight, hessian = problem(rows=64, columns=96, samples=1000)
    found = both(weight, 0.4, hessian, rank=0, samples=1000)
    admm = solve("admm", weight, 0.4, statistics=known(hessian, 1000))
    assert found.statistics["error"] == pytest.approx(admm.statistics["error"], rel=0.03)


def test_the_refit_solves_its_least_squares_problem():
    """Against the normal equations over all kept entries at once, with L eliminated."""
    weight, hessian = problem(rows=6, columns=10)
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(6, 2, generator=generator).double()).Q
    mask = torch.rand(6, 10, generator=generator) < 0.5
    projector = torch.eye(6).double() - basis @ basis.T
    system = torch.kron(projector, hessian)
    kept = mask.flatten()
    expected = torch.linalg.lstsq(
        system[kept][:, kept], (system @ weight.flatten())[kept][:, None]
    ).solution
    found = refit(weight, torch.zeros_like(weight), mask, hessian, basis, 200)
    gap = torch.zeros_like(weight)
    gap[mask] = expected[:, 0]
    assert (found[~mask] == 0).all()
    ours, best = (
        torch.trace(projector @ (weight - s) @ hessian @ (weight - s).T) for s in (found, gap)
    )
    assert ours == pytest.approx(best.item(), rel=1e-8)


def test_an_indefinite_hessian_is_damped_until_it_works_and_that_is_said():
    weight, hessian = problem()
    broken = hessian - 0.05 * hessian.diagonal().diag()
    assert "The Hessian was damped by" in both(weight, 0.5, broken, damping=0.01).status


@pytest.mark.parametrize(
    ("density", "pattern", "options", "words"),
    [
        (0.5, "2:4", {"metric": "best"}, 'metric must be "hessian" or "diagonal"'),
        (0.5, "unstructured", {"rank_share": 1.0}, "rank_share is a share"),
        (0.5, "unstructured", {"rank": -2}, "rank must be at least 0"),
        (0.5, "unstructured", {"rank": 99}, "at most rank 24"),
        (0.4, "2:4", {}, "pattern 2:4 alone keeps 0.5"),
        (1.4, "2:4", {}, "from there to 1"),
        (None, "unstructured", {}, "density is the share"),
        (0.5, "2:7", {}, "not a multiple of 7"),
    ],
)
def test_splits_that_do_not_fit_are_refused(density, pattern, options, words):
    weight, hessian = problem()
    with pytest.raises(ValueError, match=words):
        both(weight, density, hessian, pattern, **options)


def root(matrix):
    """The symmetric square root."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T


def curved(rows, samples=30, seed=0):
    """G of outputs that matter unequally and agree with each other."""
    generator = torch.Generator().manual_seed(seed)
    g = torch.randn(rows, samples, generator=generator, dtype=torch.float64)
    g = torch.randn(rows, rows, generator=generator, dtype=torch.float64) @ g
    return g @ g.T / samples


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_with_a_curvature_it_is_the_truncated_svd_of_both_sides(rows, columns):
    """G^−½ TSVD_r(G^½ W H^½) H^−½, and the error in its metric."""
    weight, hessian = problem(rows, columns)
    g = curved(rows)
    outputs, inputs = root(weighing(g)), root(hessian + 0.01 * hessian.diagonal().diag())
    u, s, v = torch.linalg.svd(outputs @ weight @ inputs, full_matrices=False)
    for rank in range(0, min(rows, columns) + 1, 3):
        found = solve(
            "low-rank", weight, None, statistics={"hessian": hessian, "curvature": g},
            rank=rank, damping=0.01,
        )  # fmt: skip
        cut = (u[:, :rank] * s[:rank]) @ v[:rank]
        best = torch.linalg.solve(outputs, cut) @ torch.linalg.inv(inputs)
        torch.testing.assert_close(found.weight, best)
        assert found.factors.rank == rank
        missed = s[rank:].square().sum() / s.square().sum()
        assert found.statistics["error"] == pytest.approx(missed.item(), abs=1e-9)
        again = solve(
            "low-rank", weight, None, statistics={"hessian": hessian, "curvature": 8 * g},
            rank=rank, damping=0.01,
        )  # fmt: skip
        assert torch.equal(again.weight, found.weight)


@pytest.mark.parametrize("iterations", [0, 6])
@pytest.mark.parametrize("samples", [0, 1, 5])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_a_singular_curvature_breaks_nothing(rows, columns, samples, iterations):
    """Fewer gradients than outputs, and none at all: rank that is left over serves the outputs."""
    weight, hessian = problem(rows, columns)
    g = curved(rows, samples) if samples else torch.zeros(rows, rows).double()
    given_both = {"hessian": hessian, "curvature": g}
    full = solve("low-rank", weight, None, statistics=given_both, rank=min(rows, columns))
    torch.testing.assert_close(full.weight, weight, rtol=1e-6, atol=1e-6)
    some = solve("low-rank", weight, 0.4, statistics=given_both, iterations=iterations)
    assert some.weight.isfinite().all()
    if not samples:
        one = solve("low-rank", weight, 0.4, statistics={"hessian": hessian}, iterations=iterations)
        torch.testing.assert_close(some.weight, one.weight)


def test_the_outputs_that_count_are_kept_better():
    weight, hessian = problem()
    strength = torch.ones(24).double()
    strength[:6] = 1000.0
    one = solve("low-rank", weight, None, statistics={"hessian": hessian}, rank=6)
    two = solve(
        "low-rank", weight, None, statistics={"hessian": hessian, "curvature": strength}, rank=6
    )

    def lost(found):
        change = (weight - found.weight)[:6]
        return (change @ hessian * change).sum()

    assert lost(two) < 0.2 * lost(one)
