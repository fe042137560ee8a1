"""Low rank and sparse + low rank: laws, and the published formulas as oracles."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruners.solvers import relative_error, solve
from pruners.solvers.low_rank import rank_for, regular, subspace
from tests.pruners.test_second_order import problem

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
