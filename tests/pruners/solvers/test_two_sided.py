"""Both sides of the error, against brute force; with G the identity it is the one-sided case."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruners.solvers import repair, solve, solve_many
from pruners.solvers.algorithms.admm import deviations
from pruners.solvers.repair import STEPS
from pruners.solvers.two_sided import (
    fit_on_support_two_sided,
    is_diagonal,
    regular,
    two_sided_error,
)
from tests.pruners.solvers.algorithms.test_formulas import problem

PATTERNS = [
    ("unstructured", 0.4),
    ("row", 0.5),
    ("2:4", None),
    ("column:2", 0.5),
    ("block:2x4", 0.5),
]
ROWS, COLUMNS = 12, 16


def curvature(rows=ROWS, seed=0, samples=40):
    """G of outputs that matter unequally and agree with each other."""
    generator = torch.Generator().manual_seed(1000 + seed)
    mixed = torch.randn(rows, rows, generator=generator, dtype=torch.float64)
    strength = torch.randn(rows, 1, generator=generator, dtype=torch.float64).exp()
    noise = torch.randn(rows, samples, generator=generator, dtype=torch.float64)
    g = strength * (mixed @ noise)
    return g @ g.T / samples


def layer(seed=0, rows=ROWS, columns=COLUMNS, dtype=torch.float64):
    weight, hessian = problem(rows, columns, seed=seed, dtype=dtype)
    return weight, hessian, curvature(rows, seed).to(dtype)


def known(hessian, g=None):
    given = {
        "hessian": hessian,
        "norms": hessian.diagonal().clamp_min(0).sqrt(),
        "samples": torch.tensor(300.0),
    }
    return given if g is None else {**given, "curvature": g}


def pruned(seed=0, density=0.4, pattern="unstructured", solver="magnitude"):
    """A layer, and a solution that nothing was made up for."""
    weight, hessian, g = layer(seed)
    found = solve(solver, weight, density, pattern, statistics=known(hessian), repair_steps=0)
    return weight, hessian, g, found


def lost(weight, found, hessian, g):
    """As solvers mean it: the error under the damped curvature that they are given."""
    change = weight - found.weight
    return two_sided_error(change, hessian, regular(g)).item()


# The error


@settings(max_examples=25)
@given(
    rows=st.integers(1, 5), columns=st.integers(1, 6), samples=st.integers(1, 7),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_the_error_is_half_the_squared_effect_of_every_pair_of_samples(
    rows, columns, samples, seed
):
    """½ tr(G ΔW H ΔWᵀ) is the mean of ½ (gᵀ ΔW x)² where g and x are independent."""
    generator = torch.Generator().manual_seed(seed)
    x, g, change = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((samples, columns), (samples + 1, rows), (rows, columns))
    )
    effects = [float(gradient @ change @ row) ** 2 / 2 for gradient in g for row in x]
    h, c = x.T @ x / len(x), g.T @ g / len(g)
    mean = sum(effects) / len(effects)
    assert two_sided_error(change, h, c).item() == pytest.approx(mean, rel=1e-9, abs=1e-12)
    identity = two_sided_error(change, h).item()
    assert identity == pytest.approx((x @ change.T).square().sum().item() / len(x) / 2)
    assert two_sided_error(change, h, torch.eye(rows).double()).item() == pytest.approx(identity)
    diagonal = c.diagonal()
    assert two_sided_error(change, h, diagonal).item() == pytest.approx(
        two_sided_error(change, h, diagonal.diag()).item()
    )


def test_a_regular_curvature_has_no_scale_and_no_direction_without_weight():
    g = curvature()
    found = regular(g)
    torch.testing.assert_close(regular(1e6 * g), found)
    assert found.diagonal().mean().item() == pytest.approx(1.0)
    for singular in (g, torch.outer(g[0], g[0])):
        found = regular(singular)
        units = found.diagonal().sqrt()
        assert torch.linalg.eigvalsh(found / units / units[:, None]).min() > 0.04
    unheard = g.clone()
    unheard[2], unheard[:, 2] = 0, 0
    assert 0 < regular(unheard)[2, 2] < 1e-4
    assert torch.equal(regular(torch.zeros(3, 3)), torch.eye(3))
    assert torch.equal(regular(torch.zeros(3)), torch.eye(3))
    torch.testing.assert_close(regular(g.diagonal()), regular(g.diagonal().diag()))
    torch.testing.assert_close(regular(7 * torch.eye(4)), torch.eye(4))


def test_diagonals_are_told_apart():
    assert is_diagonal(torch.rand(3))
    assert is_diagonal(torch.rand(3).diag())
    assert is_diagonal(torch.zeros(2, 2))
    assert not is_diagonal(torch.ones(2, 2))


# The fit on a mask


def by_normal_equations(dense, mask, hessian, g):
    """The Kronecker product of both sides, restricted to the mask, solved as one dense system."""
    whole = torch.kron(g, hessian)
    on = mask.flatten().nonzero().flatten()
    right = (g @ dense @ hessian).flatten()[on]
    found = torch.zeros(dense.numel(), dtype=dense.dtype)
    found[on] = torch.linalg.solve(whole[on][:, on], right)
    return found.reshape(dense.shape)


@pytest.mark.parametrize("density", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_the_fit_reaches_the_solution_of_the_normal_equations(seed, density):
    weight, hessian, g, found = pruned(seed, density)
    exact = by_normal_equations(weight, found.mask, hessian, g)
    fitted, taken = fit_on_support_two_sided(
        weight, torch.zeros_like(weight), found.mask, hessian, g, steps=3000, tolerance=0.0
    )
    # To the precision of the system: its condition times the rounding of float64.
    assert taken <= 3000
    torch.testing.assert_close(fitted, exact, rtol=1e-6, atol=1e-6)
    assert (fitted[~found.mask] == 0).all()
    best, reached = (two_sided_error(weight - w, hessian, g).item() for w in (exact, fitted))
    assert reached == pytest.approx(best, rel=1e-9)


def test_the_fit_starts_where_it_is_told_and_stops_when_nothing_is_gained():
    weight, hessian, g, found = pruned()
    exact = by_normal_equations(weight, found.mask, hessian, g)
    start = exact + 5.0 * ~found.mask  # outside of the mask it does not matter
    fitted, _ = fit_on_support_two_sided(weight, start, found.mask, hessian, g, 1)
    torch.testing.assert_close(fitted, exact)
    _, few = fit_on_support_two_sided(weight, found.weight, found.mask, hessian, g, 99, 0.5)
    _, many = fit_on_support_two_sided(weight, found.weight, found.mask, hessian, g, 99, 1e-4)
    assert few < many < 99
    for steps in (0, 1, 3):
        point, taken = fit_on_support_two_sided(weight, found.weight, found.mask, hessian, g, steps)
        assert taken == steps
    assert torch.equal(fit_on_support_two_sided(weight, start, found.mask, hessian, g, 0)[0],
                       start * found.mask)  # fmt: skip
    assert point.isfinite().all()


def test_dead_inputs_and_an_empty_mask_are_left_alone():
    weight, hessian, g, found = pruned()
    hessian[:4], hessian[:, :4] = 0, 0
    start = weight * found.mask
    fitted, _ = fit_on_support_two_sided(weight, start, found.mask, hessian, g, 30)
    assert fitted.isfinite().all()
    assert torch.equal(fitted[:, :4], start[:, :4])
    empty = torch.zeros_like(found.mask)
    assert not fit_on_support_two_sided(weight, weight, empty, hessian, g, 30)[0].any()


# The repair


@settings(max_examples=40)
@given(
    seed=st.integers(0, 200), density=st.floats(0.05, 0.95), steps=st.integers(1, 30),
    pattern=st.sampled_from(["unstructured", "row", "column:2"]),
    solver=st.sampled_from(["magnitude", "wanda", "admm"]), singular=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)  # fmt: skip
def test_the_repair_is_never_worse(seed, density, steps, pattern, solver, singular, dtype):
    """Fewer gradients than outputs and narrow dtypes included."""
    weight, hessian, g = layer(seed)
    if singular:
        g = torch.outer(g[0], g[0])
    weight = weight.to(dtype)
    found = solve(solver, weight, density, pattern, statistics=known(hessian), repair_steps=0)
    fitted = repair(weight, found, hessian, steps, curvature=g)
    assert torch.equal(fitted.mask, found.mask)
    assert (fitted.weight[~found.mask] == 0).all()
    assert fitted.weight.dtype == dtype
    wide = [replace(s, weight=s.weight.double()) for s in (found, fitted)]
    before, after = (lost(weight.double(), s, hessian, g) for s in wide)
    assert after <= before * (1 + 1e-5) + 1e-12
    whole = two_sided_error(weight.double(), hessian, regular(g)).item()
    assert fitted.statistics["error"] == pytest.approx(after / whole, rel=1e-2, abs=1e-5)


@pytest.mark.parametrize(("pattern", "density"), PATTERNS)
def test_the_repair_with_a_diagonal_curvature_is_that_of_the_rows(pattern, density):
    """Exactly: every row has its own least squares, whatever it counts."""
    weight, hessian, g, found = pruned(0, density, pattern)
    plain = repair(weight, found, hessian)
    sevenfold = 7 * torch.eye(ROWS).double()
    for diagonal in (torch.eye(ROWS).double(), sevenfold, g.diagonal(), g.diagonal().diag()):
        same = repair(weight, found, hessian, curvature=diagonal)
        assert torch.equal(same.weight, plain.weight)
        assert same.status == plain.status
        assert same.statistics == plain.statistics


def test_what_a_diagonal_curvature_fits_is_the_exact_solution_too():
    """The normal equations of both sides fall apart into those of the rows."""
    weight, hessian, g, found = pruned()
    rows = by_normal_equations(weight, found.mask, hessian, torch.eye(ROWS).double())
    both = by_normal_equations(weight, found.mask, hessian, g.diagonal().diag())
    torch.testing.assert_close(rows, both)
    full = by_normal_equations(weight, found.mask, hessian, g)
    assert (full - rows).abs().max() > 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_the_scale_of_the_curvature_changes_no_repair(seed):
    weight, hessian, g, found = pruned(seed)
    plain = repair(weight, found, hessian, curvature=g)
    for scale in (2.0**-40, 64.0, 2.0**40):
        scaled = repair(weight, found, hessian, curvature=scale * g)
        assert torch.equal(scaled.weight, plain.weight)
    odd = repair(weight, found, hessian, curvature=0.3 * g)
    assert odd.statistics["error"] == pytest.approx(plain.statistics["error"], rel=1e-3)


# Masks and weights by ADMM


@pytest.mark.parametrize("scale", [1.0, 9.0])
@pytest.mark.parametrize(("pattern", "density"), PATTERNS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_identity_gives_what_one_side_gives(pattern, density, scale, dtype):
    weight, hessian, _ = layer(dtype=dtype)
    one = solve("admm", weight, density, pattern, statistics=known(hessian))
    for g in (scale * torch.eye(ROWS, dtype=dtype), torch.full((ROWS,), scale, dtype=dtype)):
        two = solve("admm", weight, density, pattern, statistics=known(hessian, g))
        assert torch.equal(two.mask, one.mask)
        torch.testing.assert_close(two.weight, one.weight)
        assert two.status == one.status


@pytest.mark.parametrize(("pattern", "density"), PATTERNS)
def test_eigenbases_give_what_the_resolvent_gives(pattern, density):
    """The two-sided step itself, with a curvature that is nearly the identity."""
    weight, hessian, _ = layer()
    near = torch.eye(ROWS).double() + 1e-9 * torch.ones(ROWS, ROWS)
    assert not is_diagonal(near)
    one, two = (
        solve(
            "admm",
            weight,
            density,
            pattern,
            statistics=known(hessian, g),
            repair_steps=0,
            iterations=40,
        )
        for g in (None, near)
    )
    assert torch.equal(two.mask, one.mask)
    torch.testing.assert_close(two.weight, one.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pattern", ["row", "2:4"])
def test_a_diagonal_curvature_changes_nothing_where_rows_do_not_compete(pattern):
    """Inside a row, how much the row counts is one factor for all of its weights."""
    weight, hessian, g = layer()
    density = None if pattern == "2:4" else 0.5
    one = solve("wanda", weight, density, pattern, statistics=known(hessian))
    two = solve("wanda", weight, density, pattern, statistics=known(hessian, g.diagonal()))
    assert torch.equal(one.weight, two.weight)


def test_a_diagonal_curvature_gives_to_the_rows_that_count():
    weight, hessian, _ = layer()
    strength = torch.linspace(-3, 3, ROWS).exp().double()
    one = solve("admm", weight, 0.4, statistics=known(hessian))
    two = solve("admm", weight, 0.4, statistics=known(hessian, strength))
    assert not torch.equal(one.mask, two.mask)
    assert one.mask.sum() == two.mask.sum()
    assert two.mask[-3:].sum() > one.mask[-3:].sum()
    assert two.mask[:3].sum() < one.mask[:3].sum()
    assert lost(weight, two, hessian, strength) < lost(weight, one, hessian, strength)


def against_one_sided_masks(pattern, density, rows, columns):
    """Errors of two-sided masks over those of one-sided ones, both repaired on both sides."""
    ratios = []
    for seed in range(12):
        weight, hessian, g = layer(seed, rows, columns)
        own = solve("admm", weight, density, pattern, statistics=known(hessian, g))
        mask = solve("admm", weight, density, pattern, statistics=known(hessian))
        other = repair(weight, mask, hessian, 40, mask.statistics["damping"], g)
        ratios.append(lost(weight, own, hessian, g) / lost(weight, other, hessian, g))
    return torch.tensor(ratios)


@pytest.mark.parametrize(("pattern", "density"), PATTERNS[:3])
def test_masks_of_weights_for_both_sides_are_better_on_average_and_never_worse(pattern, density):
    ratios = against_one_sided_masks(pattern, density, 16, 24)
    assert ratios.max() < 1.02
    assert ratios.mean() < 0.8


@pytest.mark.parametrize(("pattern", "density"), PATTERNS[3:])
def test_masks_of_blocks_for_both_sides_are_better_on_average(pattern, density):
    """Blocks are few and each a large step: on some layers the search ends at a worse choice."""
    assert against_one_sided_masks(pattern, density, 32, 48).log().mean().exp() < 0.85


@pytest.mark.parametrize("height", [1, 2, 3, 6, 0])
def test_rows_are_weighed_by_what_rows_that_stay_cannot_make_up_for(height):
    """Schur complements of the block given all other rows; of all rows it is G itself."""
    g = regular(curvature(6))
    found = deviations(g, height)
    step = height or 6
    for first in range(0, 6, step):
        own = torch.arange(first, first + step)
        others = torch.tensor([i for i in range(6) if not first <= i < first + step], dtype=int)
        left = g[own][:, own]
        if len(others):
            left = left - g[own][:, others] @ torch.linalg.solve(
                g[others][:, others], g[others][:, own]
            )
        torch.testing.assert_close(found[own].square(), left.diagonal())
    torch.testing.assert_close(deviations(torch.eye(6).double(), height), torch.ones(6).double())


@pytest.mark.parametrize(("pattern", "density"), PATTERNS)
def test_the_scale_of_the_curvature_changes_no_mask(pattern, density):
    weight, hessian, g = layer()
    plain = solve("admm", weight, density, pattern, statistics=known(hessian, g))
    for scale in (2.0**-30, 32.0, 2.0**30):
        scaled = solve("admm", weight, density, pattern, statistics=known(hessian, scale * g))
        assert torch.equal(scaled.weight, plain.weight)


@pytest.mark.parametrize("spread", [0.3, 3.0])
@pytest.mark.parametrize(
    ("solver", "pattern", "density"),
    [*(("admm", *pattern) for pattern in PATTERNS[:4]), ("low-rank", "unstructured", 0.4)],
)
def test_rescaled_inputs_and_outputs_are_solved_alike(solver, pattern, density, spread):
    """Units scaled where they are made, and back where they are read: W' of D W E is D W' E."""
    weight, hessian, g = layer()
    generator = torch.Generator().manual_seed(1)
    rows, columns = (
        (spread * torch.randn(n, generator=generator, dtype=torch.float64)).exp()
        for n in weight.shape
    )
    other = known(hessian / columns / columns[:, None], g / rows / rows[:, None])
    scaled = rows[:, None] * weight * columns
    for steps in (4, STEPS):
        one = solve(
            solver, weight, density, pattern, statistics=known(hessian, g), repair_steps=steps
        )
        two = solve(solver, scaled, density, pattern, statistics=other, repair_steps=steps)
        assert torch.equal(one.mask, two.mask)
        assert two.statistics["error"] == pytest.approx(one.statistics["error"], rel=1e-2)
        if steps == 4:  # many steps of conjugate gradients let rounding grow
            back = two.weight / rows[:, None] / columns
            torch.testing.assert_close(back, one.weight, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("solver", ["admm", "sparsegpt", "wanda", "magnitude", "low-rank"])
def test_no_curvature_at_all_is_the_identity(solver):
    """Gradients of zeros say nothing, and break nothing."""
    weight, hessian, _ = layer()
    density = 0.5
    one = solve(solver, weight, density, statistics=known(hessian))
    for nothing in (torch.zeros(ROWS, ROWS).double(), torch.zeros(ROWS).double()):
        two = solve(solver, weight, density, statistics=known(hessian, nothing))
        torch.testing.assert_close(two.weight, one.weight)


@pytest.mark.parametrize("solver", ["wanda", "sparsegpt", "magnitude", "least-squares"])
def test_solvers_of_one_side_are_repaired_for_both(solver):
    """They choose the mask that they choose; the weights on it know the outputs."""
    weight, hessian, g = layer()
    one = solve(solver, weight, 0.4, statistics=known(hessian))
    two = solve(solver, weight, 0.4, statistics=known(hessian, g))
    assert torch.equal(one.mask, two.mask)
    assert lost(weight, two, hessian, g) < lost(weight, one, hessian, g)
    assert "on both sides" in two.status


def test_many_weights_get_what_each_gets_alone():
    weights, statistics = {}, {}
    for seed in range(4):
        weight, hessian, g = layer(seed)
        weights[str(seed)] = weight
        statistics[str(seed)] = known(hessian, [g, None, g.diagonal(), g][seed])
    found = solve_many("admm", weights, 0.4, statistics=statistics)
    for name, weight in weights.items():
        alone = solve("admm", weight, 0.4, statistics=statistics[name])
        torch.testing.assert_close(found[name].weight, alone.weight)
        assert found[name].status == alone.status


@pytest.mark.parametrize("out_dim", [0, 1])
def test_kernels_and_transposed_weights_have_their_outputs_where_they_are(out_dim):
    weight, hessian, g = layer(rows=6, columns=12)
    kernel = weight.reshape(6, 3, 4).transpose(1, 2).contiguous()  # (out, in, taps)
    kernel = kernel.transpose(0, 1).contiguous() if out_dim else kernel
    whole = solve("admm", weight, 0.5, statistics=known(hessian, g))
    found = solve("admm", kernel, 0.5, statistics=known(hessian, g), out_dim=out_dim)
    back = found.weight.transpose(0, 1) if out_dim else found.weight
    assert back.shape == (6, 4, 3)
    assert torch.equal(back.transpose(1, 2).reshape(6, 12), whole.weight)


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_nothing_and_everything_may_stay(density):
    weight, hessian, g = layer()
    found = solve("admm", weight, density, statistics=known(hessian, g))
    torch.testing.assert_close(found.weight, weight * density)


def test_a_curvature_of_a_wrong_shape_or_not_finite_is_refused():
    weight, hessian, g = layer()
    with pytest.raises(ValueError, match=r'"curvature": expected shape \(12, 12\) .*got \(16, 16'):
        solve("admm", weight, 0.5, statistics=known(hessian, hessian))
    with pytest.raises(ValueError, match=r"expected shape \(12,\).*got \(16,\)"):
        solve("admm", weight, 0.5, statistics=known(hessian, hessian.diagonal()))
    with pytest.raises(ValueError, match='"curvature" are not finite'):
        solve("admm", weight, 0.5, statistics=known(hessian, g * torch.inf))


def test_a_mask_of_one_unit_is_a_pattern_like_any_other():
    """One row, one column, one weight: sizes at which eigenbases are trivial."""
    for rows, columns in ((1, 4), (4, 1), (1, 1)):
        weight, hessian, g = layer(rows=rows, columns=columns)
        found = solve("admm", weight, 0.5, statistics=known(hessian, g))
        assert found.weight.isfinite().all()
        assert found.mask.sum() == round(0.5 * rows * columns)


def test_a_repaired_solution_says_so():
    weight, hessian, g, found = pruned()
    status = repair(weight, found, hessian, 3, curvature=g).status
    assert status == f"{found.status} Refitted by 3 conjugate-gradient steps on both sides."
