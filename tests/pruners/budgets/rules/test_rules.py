"""Rules one by one: what each promises beyond the exact sum."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruners import budgets
from pruners.budgets.rules.depth_linear import line
from pruners.budgets.rules.distortion import dynamic_program, fill, hull, monotone
from pruners.budgets.rules.owl import owl
from pruners.budgets.structure import blocks, depth
from pruners.statistics import Imitation
from tests.pruners.conftest import make

RULES = [name for name in budgets.rules_for("masks") if name != "manual"]
OPTIONS = {"search": {"evaluations": 8}, "price": {"steps": 3}, "distortion": {"grid": [0.1, 1.0]}}


def allocated(rule, case, density, **options):
    names = budgets.prunable_weights(case.net)
    evidence = budgets.measured(rule, case.net, [case.inputs], names)
    return budgets.allocate_masks(
        rule, case.net, density, **{**evidence, **OPTIONS.get(rule, {}), **options}
    )


def sizes_of(net, names=None):
    return {n: net.tensors[n].value.numel() for n in names or budgets.prunable_weights(net)}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("density", [0.05, 0.5, 0.93])
def test_every_rule_is_exact_to_one_weight_and_stays_inside_its_bounds(case, rule, density):
    sizes = sizes_of(case.net)
    total = budgets.allowance(density, sum(sizes.values()))
    shares = allocated(rule, case, density)
    assert sum(round(share * sizes[name]) for name, share in shares.items()) == total
    first = next(iter(sizes))
    lower, upper = {first: 0.5 * density}, {first: min(1.0, 1.02 * density)}
    bounded = allocated(rule, case, density, lower=lower, upper=upper)
    # Rules that choose whole weights may be half of one past a bound.
    assert lower[first] - 1 / sizes[first] <= bounded[first] <= upper[first] + 1 / sizes[first]
    assert sum(bounded[n] * s for n, s in sizes.items()) == pytest.approx(total, abs=0.51)


@pytest.mark.parametrize("rule", RULES)
def test_n_of_m_is_whole_and_within_the_budget(rule):
    case = make("attention")
    names = ["o.weight", "q.weight", "v.weight"]
    case.net.tensors["q.weight"]
    weights = [n for n in names if case.net.tensors[n].value.shape[1] % 2 == 0]
    evidence = budgets.measured(rule, case.net, [case.inputs], weights)
    shares = budgets.allocate_masks(
        rule, case.net, 0.5, weights=weights, pattern="1:2", **{**evidence, **OPTIONS.get(rule, {})}
    )
    assert all((2 * share).is_integer() and share >= 0.5 for share in shares.values())
    sizes = sizes_of(case.net, weights)
    assert sum(shares[n] * sizes[n] for n in weights) <= 0.5 * sum(sizes.values())


@pytest.mark.parametrize("rule", ["uniform", "erk", "lamp", "global", "owl", "distortion", "price"])
def test_the_order_of_the_tensors_does_not_matter(rule):
    case = make("cnn")
    names = budgets.prunable_weights(case.net)
    evidence = budgets.measured(rule, case.net, [case.inputs], names)
    options = {**evidence, **OPTIONS.get(rule, {})}
    straight, back = (
        budgets.allocate_masks(rule, case.net, 0.4, weights=order, **options)
        for order in (names, names[::-1])
    )
    sizes = sizes_of(case.net)
    # Ties and remainders may fall to another tensor: a weight or two.
    assert all(abs(straight[n] - back[n]) * sizes[n] <= 2 for n in names)


def test_depth_is_the_order_of_use_and_blocks_share_it():
    net = make("cnn").net
    found = depth(net, ["fc.weight", "conv2.weight", "stem.weight", "conv1.weight"])
    ordered = sorted(found, key=found.__getitem__)
    assert ordered == ["stem.weight", "conv1.weight", "conv2.weight", "fc.weight"]
    assert (found["stem.weight"], found["fc.weight"]) == (0.0, 1.0)
    names = ["m.layers.3.a.weight", "m.layers.3.b.0.weight", "layer1.0.c.weight", "fc.weight"]
    assert list(blocks(net, names).values()) == ["m.layers.3", "m.layers.3", "layer1.0", "fc"]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5000), min_size=2, max_size=9),
    density=st.floats(0.05, 0.95),
    steep=st.floats(-3, 3),
)
def test_a_line_over_depth_keeps_the_budget_and_is_monotone(sizes, density, steep):
    weights = {str(i): torch.empty(n) for i, n in enumerate(sizes)}
    place = {str(i): i / (len(sizes) - 1) for i in range(len(sizes))}
    shares = list(line(weights, density, place, steep).values())
    total = sum(k * n for k, n in zip(shares, sizes, strict=True))
    assert total == pytest.approx(density * sum(sizes), rel=1e-9)
    assert all(0 <= k <= 1 for k in shares)
    steps = [(a - b) * (1 if steep > 0 else -1) for a, b in pairwise(shares)]
    assert all(step >= -1e-5 for step in steps)


def test_depth_linear_takes_the_slope_that_the_loss_likes_or_asks_for_one():
    case = make("mlp")
    place = depth(case.net, budgets.prunable_weights(case.net))

    def loss(values):  # likes the last weight dense
        return -float((values["4.weight"] != 0).sum()), {}

    shares = budgets.allocate_masks("depth-linear", case.net, 0.4, loss=loss)
    steepest = budgets.allocate_masks("depth-linear", case.net, 0.4, slope=-0.8 * 0.8)
    assert shares == pytest.approx(steepest)
    assert shares["4.weight"] > shares["0.weight"]
    assert place["4.weight"] == 1
    with pytest.raises(ValueError, match="needs calibration batches to find its slope"):
        budgets.allocate_masks("depth-linear", case.net, 0.4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.floats(0.2, 0.8), st.sampled_from([None, 0.02, 0.15]))
def test_owl_shares_lie_in_its_window_and_blocks_share_one(seed, density, window):
    generator = torch.Generator().manual_seed(seed)
    weights = {
        f"{b}.{i}": torch.randn(6, 8 + 4 * b, generator=generator) ** (2 * b + 1)
        for b, i in product(range(4), range(2))
    }
    norms = {n: torch.rand(w.shape[1], generator=generator) for n, w in weights.items()}
    of = {name: name[0] for name in weights}
    shares = owl(
        weights, density, norms=norms, blocks=of, out_dims=dict.fromkeys(weights, 0),
        outlier=2.0, window=window,
    )  # fmt: skip
    half = 0.08 if window is None else window
    assert max(shares.values()) - min(shares.values()) <= 2 * half + 1e-9
    assert all(abs(share - density) <= 2 * half + 1e-9 for share in shares.values())
    assert all(shares[f"{b}.0"] == shares[f"{b}.1"] for b in range(4))
    total = sum(shares[n] * w.numel() for n, w in weights.items())
    assert total == pytest.approx(density * sum(w.numel() for w in weights.values()))


def test_owl_gives_more_to_blocks_with_outliers_by_hand():
    few, many = torch.ones(4, 10), torch.ones(4, 10)
    many[:, 0] = 100.0  # 10 % of the block, mean 10.9
    shares = owl(
        {"a.w": few, "b.w": many}, 0.5, norms={"b.w": torch.ones(10)},
        blocks={"a.w": "a", "b.w": "b"}, out_dims={"a.w": 0, "b.w": 0},
    )  # fmt: skip
    assert shares == pytest.approx({"a.w": 0.42, "b.w": 0.58})
    with pytest.raises(ValueError, match=r'norms of "a.w": expected shape \(10,\)'):
        owl(
            {"a.w": few}, 0.5, norms={"a.w": torch.ones(3)}, blocks={"a.w": "a"},
            out_dims={"a.w": 0},
        )  # fmt: skip


curves = st.lists(st.lists(st.floats(0, 10), min_size=4, max_size=4), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None)
@given(curves=curves, data=st.data())
def test_the_dynamic_program_is_optimal(curves, data):
    """Against all combinations, with a bin for every weight; the first tensor counts as well."""
    grid = [0.0, 0.25, 0.5, 1.0]
    sizes = [4 * data.draw(st.integers(1, 6)) for _ in curves]
    total = data.draw(st.integers(0, sum(sizes)))
    listed = [monotone(curve) for curve in curves]
    found = dynamic_program(listed, grid, sizes, total, bins=max(total, 1))

    def cost(points):
        return sum(grid[i] * n for i, n in zip(points, sizes, strict=True))

    def value(points):
        return sum(c[i] for c, i in zip(listed, points, strict=True))

    best = min(value(p) for p in product(range(4), repeat=len(curves)) if cost(p) <= total)
    assert cost(found) <= total
    assert value(found) == pytest.approx(best)


@settings(max_examples=60, deadline=None)
@given(curves=curves, share=st.floats(0.05, 1))
def test_the_lagrangian_fill_is_optimal_on_convex_curves_and_spends_all(curves, share):
    grid = [0.0, 0.25, 0.5, 1.0]
    # Convex by construction: slopes that fall.
    listed = []
    for curve in curves:
        slopes = sorted((abs(x) for x in curve[:3]), reverse=True)
        gains = [s * (b - a) for s, a, b in zip(slopes, grid, grid[1:], strict=False)]
        listed.append([sum(gains[i:]) for i in range(4)])
    sizes = [8] * len(curves)
    total = share * sum(sizes)
    found = fill(listed, grid, sizes, total, [0.0] * len(sizes))
    assert sum(k * 8 for k in found) == pytest.approx(total)

    def distortion(shares):
        place = torch.tensor(shares, dtype=torch.float64)
        return sum(
            float(_interpolate(grid, curve, k)) for curve, k in zip(listed, place, strict=True)
        )

    best = distortion(found)
    for other in product([0.0, 0.25, 0.5, 1.0], repeat=len(sizes)):
        if sum(other) * 8 <= total + 1e-9:
            assert best <= distortion(other) + 1e-9


def _interpolate(grid, curve, k):
    for (x0, y0), (x1, y1) in hull(grid, curve, 0.0):
        if x0 <= k <= x1 + 1e-12:
            return y0 + (y1 - y0) * (k - x0) / (x1 - x0)
    return curve[-1]


def test_distortion_methods_agree_where_layers_do_not_interact():
    """Two tensors, one of which does not matter: both methods empty it first."""
    case = make("mlp")
    names = budgets.prunable_weights(case.net)
    given = {
        "0.weight": [9.0, 4.0, 1.0, 0.0],
        "2.weight": [0.0, 0.0, 0.0, 0.0],
        "4.weight": [3.0, 1.0, 0.2, 0.0],
    }
    grid = [0.1, 0.4, 0.7, 1.0]
    for method in ("lagrangian", "dp"):
        shares = budgets.allocate_masks(
            "distortion", case.net, 0.5, curves=given, grid=grid, method=method
        )
        assert shares["2.weight"] == min(shares.values())
        assert shares["0.weight"] > 0.6
        assert list(shares) == names
    with pytest.raises(ValueError, match="unknown method"):
        budgets.allocate_masks("distortion", case.net, 0.5, curves=given, grid=grid, method="x")
    with pytest.raises(ValueError, match="must ascend"):
        budgets.allocate_masks("distortion", case.net, 0.5, curves=given, grid=[0.5])
    with pytest.raises(ValueError, match="needs calibration batches to measure"):
        budgets.allocate_masks("distortion", case.net, 0.5)
    with pytest.raises(ValueError, match="below the grid"):
        budgets.allocate_masks("distortion", case.net, 0.01, curves=given, grid=grid, method="dp")


def test_curves_start_from_the_loss_of_the_dense_weights():
    """What the dense weights lose as well (batch norms on a batch) is no reason to keep them."""
    case = make("cnn")
    weights = {n: case.net.tensors[n].value for n in budgets.prunable_weights(case.net)}
    grid = [0.1, 0.5, 1.0]
    plain = Imitation(case.model, [case.inputs])
    shifted = budgets.MaskProblem(weights, 0.5, lambda values: (plain.value(values) + 0.25, {}))
    expected = budgets.measure_curves(budgets.MaskProblem(weights, 0.5, plain), grid)
    for name, curve in budgets.measure_curves(shifted, grid).items():
        assert curve == pytest.approx(expected[name], abs=1e-9)
        assert curve[0] > curve[2] == 0


def test_monotone_is_the_smallest_curve_above():
    assert monotone([3.0, 5.0, 1.0, 2.0, 0.0]) == [5.0, 5.0, 2.0, 2.0, 0.0]


def test_manual_shares_hold_and_the_rest_makes_up():
    net = make("cnn").net
    shares = budgets.allocate_masks({"fc.weight": 0.9, "conv*": 0.25}, net, 0.33)
    assert [shares[n] for n in ("fc.weight", "conv1.weight", "conv2.weight")] == [0.9, 0.25, 0.25]
    sizes = sizes_of(net)
    total = budgets.allowance(0.33, sum(sizes.values()))
    assert sum(shares[n] * sizes[n] for n in sizes) == pytest.approx(total)
    # A name counts before a pattern, an earlier pattern before a later one.
    order = {"conv*": 0.2, "*.weight": 0.5, "conv2.weight": 0.3}
    density = sum(
        sizes[n] * (0.3 if n == "conv2.weight" else 0.2 if n == "conv1.weight" else 0.5)
        for n in sizes
    ) / sum(sizes.values())
    found = budgets.allocate_masks(order, net, density)
    # To one weight, which is all that a mask can do.
    assert found["conv1.weight"] == pytest.approx(0.2, abs=1 / sizes["conv1.weight"])
    assert found["conv2.weight"] == pytest.approx(0.3, abs=1 / sizes["conv2.weight"])
    # Rounded numbers are moved onto the budget, whole and empty tensors are not.
    near = budgets.allocate_masks({"fc.weight": 1.0, "*": 0.5}, net, density=_kept(net, 0.501))
    assert near["fc.weight"] == 1.0
    assert near["stem.weight"] == pytest.approx(0.501, abs=1 / sizes["stem.weight"])


def _kept(net, share):
    sizes = sizes_of(net)
    whole = sizes["fc.weight"]
    return (whole + share * (sum(sizes.values()) - whole)) / sum(sizes.values())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"nothing.*": 0.5}, "neither the name of a weight nor a pattern"),
        ({"fc.weight": 1.5}, "must be from 0 to 1"),
        ({"fc.weight": "half"}, "must be a number"),
        ({"*": 0.9}, "the given shares keep 0.9 of the weights"),
        ({"conv*": 1.0, "stem.weight": 1.0}, "in reach"),
    ],
)
def test_manual_shares_that_cannot_be_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        budgets.allocate_masks(values, make("cnn").net, 0.4)


def test_a_budget_is_named_in_three_ways():
    assert budgets.named("lamp") == ("lamp", {})
    assert budgets.named({"rule": "search", "seed": 3}) == ("search", {"seed": 3})
    assert budgets.named({"rule": 0.5}) == ("manual", {"values": {"rule": 0.5}})
    with pytest.raises(ValueError, match="the budget is empty"):
        budgets.named({})


def test_a_rule_starts_from_another_by_name():
    case = make("mlp")
    found = [
        allocated("price", case, 0.4, start=start)
        for start in ("erk", budgets.allocate_masks("erk", case.net, 0.4))
    ]
    assert found[0] == found[1]
    with pytest.raises(ValueError, match='unknown budget rule "best"'):
        allocated("price", case, 0.4, start="best")
