"""Wanda, SparseGPT and the repair against straightforward implementations of their formulas."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pruners.solvers import MaskPattern, Solution, relative_error, repair, solve
from pruners.solvers.algorithms.sparsegpt import BLOCK, SparseGPT, factored
from pruners.solvers.repair import fit_on_support

PATTERNS = [
    ("unstructured", 0.5),
    ("unstructured", 0.23),
    ("row", 0.4),
    ("2:4", None),
    ("3:8", None),
]


def problem(rows=24, columns=40, samples=300, seed=0, dtype=torch.float64):
    """Correlated inputs with channels of very different strength."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.randn(columns, max(1, columns // 4), generator=generator, dtype=torch.float64)
    noise = torch.randn(columns, samples, generator=generator, dtype=torch.float64)
    x = factors @ torch.randn(factors.shape[1], samples, generator=generator, dtype=torch.float64)
    x = (x + 0.3 * noise) * torch.rand(columns, 1, generator=generator, dtype=torch.float64).exp()
    weight = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    return weight.to(dtype), (x @ x.T / samples).to(dtype)


def published(weight, hessian, density, pattern, block=BLOCK, damping=0.01):
    """Algorithm 1 of the paper, column by column with U from the inverse, exact in number."""
    pattern = MaskPattern.parse(pattern)
    weight, hessian = weight.clone(), hessian.clone()
    rows, width = weight.shape
    dead = hessian.diagonal() == 0
    hessian[dead, dead] = 1
    weight[:, dead] = 0
    hessian.diagonal().add_(damping * hessian.diagonal().mean())
    u = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    mask = torch.ones_like(weight, dtype=torch.bool)
    for first in range(0, width, block):
        last = min(first + block, width)
        scores = (weight[:, first:last] / u.diagonal()[first:last]).square()
        if pattern.name == "unstructured":
            count = round(density * rows * last) - round(density * rows * first)
            chosen = torch.zeros(scores.numel(), dtype=torch.bool)
            chosen[scores.flatten().sort(descending=True, stable=True).indices[:count]] = True
            mask[:, first:last] = chosen.reshape(scores.shape)
        elif pattern.name == "row":
            count = round(density * last) - round(density * first)
            order = scores.sort(dim=1, descending=True, stable=True).indices[:, :count]
            mask[:, first:last] = torch.zeros_like(scores, dtype=torch.bool).scatter(1, order, True)
        for j in range(first, last):
            if pattern.m and j % pattern.m == 0:
                group = slice(j, j + pattern.m)
                scores = (weight[:, group] / u.diagonal()[group]).square()
                order = scores.sort(dim=1, descending=True, stable=True).indices[:, : pattern.n]
                mask[:, group] = torch.zeros_like(scores, dtype=torch.bool).scatter(1, order, True)
            error = torch.where(mask[:, j], 0.0, weight[:, j]) / u[j, j]
            weight[:, j:] -= error[:, None] * u[j, j:]
    return torch.where(mask, weight, 0.0), mask


GROUPS = [("1:3", 135), ("3:7", 140), ("1:1", 33), ("5:6", 138), ("4:17", 136), ("9:34", 136)]


@pytest.mark.parametrize(
    ("pattern", "density", "columns"),
    [(*case, columns) for case in PATTERNS for columns in (40, 136)]
    + [(pattern, None, columns) for pattern, columns in GROUPS],
)
@pytest.mark.parametrize("block", [16, 128])
def test_sparsegpt_is_the_published_algorithm(pattern, density, columns, block):
    block -= block % (MaskPattern.parse(pattern).m or 1)  # as the solver does
    block = block or MaskPattern.parse(pattern).m
    weight, hessian = problem(columns=columns)
    expected, mask = published(weight, hessian, density, pattern, block)
    found = solve(
        "sparsegpt",
        weight,
        density,
        pattern,
        statistics={"hessian": hessian},
        repair_steps=0,
        block=block,
    )
    assert torch.equal(found.mask, mask)
    torch.testing.assert_close(found.weight, expected)
    loss = ((weight - expected) @ hessian * (weight - expected)).sum().item()
    assert found.statistics["loss"] == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize(("pattern", "density"), PATTERNS)
@pytest.mark.parametrize("name", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_solver_keeps_the_law(name, pattern, density, dtype):
    weight, hessian = problem(dtype=torch.float32)
    weight = weight.to(dtype)
    given = {"hessian": hessian, "norms": hessian.diagonal().sqrt()}
    found = solve(name, weight, density, pattern, statistics=given)
    bare = solve(name, weight, density, pattern, statistics=given, repair_steps=0)
    assert found.weight.dtype == dtype
    assert torch.equal(found.mask, bare.mask)
    assert (found.weight[~found.mask] == 0).all()
    rows, columns = weight.shape
    if pattern == "unstructured":
        assert found.mask.sum() == round(density * weight.numel())
    elif pattern == "row":
        assert (found.mask.sum(1) == round(density * columns)).all()
    else:
        n, m = map(int, pattern.split(":"))
        assert (found.mask.reshape(rows, -1, m).sum(-1) == n).all()
    before = relative_error(weight, bare.weight, hessian).item()
    after = relative_error(weight, found.weight, hessian).item()
    assert after < before
    assert found.statistics["error"] == pytest.approx(after, rel=2e-2, abs=1e-6)
    assert found.status.startswith(bare.status)


def test_each_step_of_the_ladder_is_better():
    weight, hessian = problem(rows=64, columns=96, samples=1000)
    given = {"hessian": hessian, "norms": hessian.diagonal().sqrt()}
    for pattern, density in PATTERNS:
        errors = [
            relative_error(
                weight,
                solve(name, weight, density, pattern, statistics=given, repair_steps=steps).weight,
                hessian,
            ).item()
            for name, steps in (("magnitude", 0), ("wanda", 0), ("sparsegpt", 0), ("sparsegpt", 20))
        ]
        assert errors == sorted(errors, reverse=True), (pattern, errors)


@pytest.mark.parametrize("name", ["wanda", "sparsegpt"])
def test_more_budget_never_means_more_error(name):
    weight, hessian = problem()
    given = {"hessian": hessian, "norms": hessian.diagonal().sqrt()}
    errors = [
        solve(name, weight, density, statistics=given).statistics["error"]
        for density in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(1.0)
    assert errors[-1] == pytest.approx(0.0, abs=1e-12)


def test_wanda_follows_the_formula():
    weight, hessian = problem()
    norms = hessian.diagonal().sqrt()
    found = solve("wanda", weight, 0.35, "row", statistics={"norms": norms})
    scores = weight.abs() * norms
    order = scores.argsort(dim=1, descending=True)[:, : round(0.35 * 40)]
    assert torch.equal(found.mask, torch.zeros_like(found.mask).scatter(1, order, True))
    assert torch.equal(found.weight, torch.where(found.mask, weight, 0.0))
    lost = scores[~found.mask].square().sum() / scores.square().sum()
    assert found.statistics["error"] == pytest.approx(lost.item())


def test_repair_reaches_least_squares_on_the_support():
    weight, hessian = problem()
    mask = solve("magnitude", weight, 0.4).mask
    found, taken = fit_on_support(
        weight, torch.zeros_like(weight), mask, hessian, steps=200, damping=0.01
    )
    assert taken == 200
    damped = hessian + 0.01 * hessian.diagonal().diag()
    for row in range(weight.shape[0]):
        inside = mask[row]
        exact = torch.linalg.solve(damped[inside][:, inside], damped[inside] @ weight[row])
        torch.testing.assert_close(found[row, inside], exact)
    assert (found[~mask] == 0).all()


@pytest.mark.parametrize("steps", [1, 5, 40])
def test_repair_never_hurts_a_row(steps):
    """Also where the start is already optimal without damping, and from any starting point."""
    weight, hessian = problem()
    mask = solve("magnitude", weight, 0.4).mask
    best = torch.zeros_like(weight)
    for row in range(weight.shape[0]):
        inside = mask[row]
        best[row, inside] = torch.linalg.solve(
            hessian[inside][:, inside], hessian[inside] @ weight[row]
        )
    for start in (best, weight * mask, torch.zeros_like(weight)):
        solution = Solution(start, mask, "Given.", {"kept": int(mask.sum())})
        found = repair(weight, solution, hessian, steps)
        change = weight - torch.stack([start, found.weight])
        before, after = ((change @ hessian) * change).sum(-1)
        assert (after <= before + 1e-12).all()
        assert torch.equal(found.mask, mask)
        assert found.statistics["kept"] == mask.sum()


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_inputs_that_are_always_zero_go_first_and_cost_nothing(pattern):
    weight, hessian = problem()
    hessian[:, ::4] = 0
    hessian[::4] = 0
    density = None if pattern == "2:4" else 0.5
    found = solve("sparsegpt", weight, density, pattern, statistics={"hessian": hessian})
    assert found.weight.isfinite().all()
    assert found.mask[:, ::4].sum() == 0
    nothing = solve("sparsegpt", weight, 0.5, statistics={"hessian": torch.zeros_like(hessian)})
    assert nothing.mask.sum() == 480
    assert torch.equal(nothing.weight, torch.where(nothing.mask, weight, 0.0))


def test_fewer_samples_than_inputs_still_work():
    weight, hessian = problem(samples=5)
    found = solve("sparsegpt", weight, 0.5, statistics={"hessian": hessian.float()})
    assert found.weight.isfinite().all()
    assert found.statistics["error"] < 1e-3


def test_an_indefinite_hessian_is_damped_until_it_works_and_that_is_said():
    weight, hessian = problem()
    broken = hessian - 0.05 * hessian.diagonal().mean() * torch.eye(40, dtype=torch.float64)
    found = solve("sparsegpt", weight, 0.5, statistics={"hessian": broken}, repair_steps=0)
    assert "damped by 0.1 of its mean" in found.status
    alive = torch.zeros(40, dtype=torch.bool)
    with pytest.raises(ValueError, match="not positive definite even when damped"):
        factored(hessian - 1e9 * torch.ones(40, 40), alive, 0.01)


def test_the_factor_is_upper_triangular_and_gives_the_hessian_back():
    _, hessian = problem()
    alive = torch.zeros(40, dtype=torch.bool)
    factor, damping, note = factored(hessian, alive, 0.01)
    assert torch.equal(factor, factor.triu())
    torch.testing.assert_close(factor @ factor.T, hessian + damping * torch.eye(40).double())
    assert note == ""


def test_one_preparation_serves_all_budgets():
    weight, hessian = problem()
    algorithm = SparseGPT()
    state = algorithm.prepare(weight, {"hessian": hessian})
    for pattern, density in PATTERNS:
        found = algorithm.solve(state, density, MaskPattern.parse(pattern))
        fresh = solve(
            "sparsegpt", weight, density, pattern, statistics={"hessian": hessian}, repair_steps=0
        )
        assert torch.equal(found.weight, fresh.weight)


@pytest.mark.parametrize(
    ("statistics", "words"),
    [
        ({}, "needs the statistics hessian"),
        ({"hessian": torch.ones(3, 3)}, r"expected shape \(40, 40\)"),
        ({"hessian": torch.full((40, 40), torch.nan)}, "not finite"),
    ],
)
def test_bad_statistics_are_refused(statistics, words):
    with pytest.raises(ValueError, match=words):
        solve("sparsegpt", problem()[0], 0.5, statistics=statistics)


def test_convolutions_use_statistics_in_matrix_order():
    """Pruning a convolution is pruning its matrix view with the Hessian of its patches."""
    weight, hessian = problem(columns=36)
    kernel = weight.reshape(24, 3, 3, 4).permute(0, 3, 1, 2)  # (out, in, h, w)
    flat = solve("sparsegpt", weight, None, "2:4", statistics={"hessian": hessian})
    found = solve("sparsegpt", kernel, None, "2:4", statistics={"hessian": hessian})
    torch.testing.assert_close(found.weight.permute(0, 2, 3, 1).reshape(24, 36), flat.weight)
    assert found.statistics == pytest.approx(flat.statistics)
    assert replace(found, weight=flat.weight, mask=flat.mask).status == flat.status
