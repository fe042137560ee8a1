"""Many weights at once: the law is that each gets what it gets alone."""

from __future__ import annotations

import pytest
import torch

from pruners.solvers import SOLVERS, MaskPattern, Solution, repair, solve, solve_many
from pruners.solvers.damping import shrinkage
from pruners.solvers.repair import STEPS, repair_many
from tests.pruners.solvers.algorithms.test_formulas import problem
from tests.pruners.solvers.test_laws import known

SHAPES = {"a": (8, 24), "b": (8, 24), "c": (12, 8), "d": (8, 24), "e": (12, 8), "wide": (40, 480)}


def layers(dtype=torch.float64):
    """Three shapes, one of them too large for a batch; "d" is a convolution, "e" transposed."""
    weights, statistics = {}, {}
    for seed, (name, (rows, columns)) in enumerate(SHAPES.items()):
        weight, hessian = problem(rows, columns, seed=seed)
        weights[name], statistics[name] = weight.to(dtype), known(weight, hessian.to(dtype))
    weights["d"] = weights["d"].reshape(8, 3, 2, 4).permute(0, 3, 1, 2).contiguous()
    weights["e"] = weights["e"].T.contiguous()
    return weights, statistics, {"e": 1}


@pytest.mark.parametrize("name", list(SOLVERS))
@pytest.mark.parametrize("steps", [0, STEPS])
def test_each_gets_what_it_gets_alone(name, steps):
    weights, statistics, out_dims = layers()
    shares = {key: 0.3 + 0.05 * i for i, key in enumerate(weights)}
    found = solve_many(
        name, weights, shares, statistics=statistics, out_dims=out_dims, repair_steps=steps
    )
    assert list(found) == list(weights)
    for key, weight in weights.items():
        alone = solve(
            name, weight, shares[key],
            statistics=statistics[key], out_dim=out_dims.get(key, 0), repair_steps=steps,
        )  # fmt: skip
        assert torch.equal(found[key].mask, alone.mask)
        torch.testing.assert_close(found[key].weight, alone.weight)
        assert found[key].statistics == pytest.approx(alone.statistics)
        assert found[key].status == alone.status
        assert found[key].weight.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_weight_may_have_its_own_pattern(dtype):
    weights, statistics, out_dims = layers(dtype)
    patterns = dict.fromkeys(weights, "2:4") | {"b": "1:4", "d": MaskPattern.parse("3:4")}
    found = solve_many("wanda", weights, None, patterns, statistics=statistics, out_dims=out_dims)
    for key, solution in found.items():
        share = MaskPattern.parse(patterns[key]).density(None)
        assert solution.weight.dtype == dtype
        assert solution.mask.sum() == share * weights[key].numel()
    both = solve_many(
        "sparse+low-rank", weights, 0.7, "2:4", statistics=statistics, out_dims=out_dims
    )
    assert both["wide"].factors.rank == int(0.2 * 40 * 480 / 520)


def test_members_of_a_batch_stop_when_they_are_done():
    """Independent inputs are fitted in a step, correlated ones in many."""
    weights, hessians = zip(*(problem(seed=seed) for seed in range(3)), strict=True)
    hessians = (hessians[0], hessians[1].diagonal().diag(), hessians[2])
    masks = [solve("magnitude", weight, 0.4).mask for weight in weights]
    solutions = [Solution(w * m, m, "Given.") for w, m in zip(weights, masks, strict=True)]
    shares = [shrinkage(hessian, 300) for hessian in hessians]
    found = repair_many(weights, solutions, hessians, 50, shares)
    for i, member in enumerate(found):
        alone = repair(weights[i], solutions[i], hessians[i], 50, shares[i])
        assert member.status == alone.status
        torch.testing.assert_close(member.weight, alone.weight)
    steps = [int(member.status.split()[-3]) for member in found]
    assert steps[1] == 1 < min(steps[0], steps[2])


def test_statistics_may_be_missing_for_some():
    weights, statistics, out_dims = layers()
    del statistics["b"]
    found = solve_many("magnitude", weights, 0.5, statistics=statistics, out_dims=out_dims)
    assert torch.equal(found["b"].weight, solve("magnitude", weights["b"], 0.5).weight)
    assert "Refitted" in found["a"].status
    assert "Refitted" not in found["b"].status
    assert solve_many("magnitude", {}, 0.5) == {}


def test_every_weight_needs_a_pattern():
    weights, _, _ = layers()
    with pytest.raises(ValueError, match='no pattern for the weight "b"'):
        solve_many("magnitude", weights, None, {"a": "2:4"})


@pytest.mark.parametrize(
    ("density", "words"),
    [
        ({"a": 0.5}, 'no density for the weight "b"'),
        ({"a": 0.5, "b": 1.5}, r'weight "b": density .* \(got 1.5\)'),
        (0.5, 'weight "a": solver "wanda" needs the statistics norms'),
    ],
)
def test_errors_name_the_weight(density, words):
    weights, statistics, _ = layers()
    given = {key: weights[key] for key in ("a", "b")}
    with pytest.raises(ValueError, match=words):
        solve_many("wanda", given, density, statistics={} if density == 0.5 else statistics)
