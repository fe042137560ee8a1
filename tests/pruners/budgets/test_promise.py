"""The promise of every budget: never above what is asked, within a unit below, or a refusal."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from graphs import trace
from pruners import UnreachableTargetError, budgets, solvers
from pruners.solvers import MaskPattern
from pruners.solvers.matrix import matrix_shape, out_dims
from tests.pruners.conftest import make

PATTERNS = [
    "unstructured", "row", "1:2", "2:4", "3:5", "column", "column:4", "block:4x4", "block:2x3",
]  # fmt: skip
RULES = [name for name in budgets.rules_for("masks") if name != "manual"]
OPTIONS = {"search": {"evaluations": 3}, "price": {"steps": 2}, "distortion": {"grid": [0.3, 1.0]}}


@cache
def evidence(rule, kind):
    case = make(kind)
    weights = budgets.prunable_weights(case.net)
    return budgets.measured(rule, case.net, [case.inputs], weights)


def names_for(net, pattern):
    return [name for name, reason in budgets.maskable(net, pattern).items() if reason is None]


def reachable(net, names, mask, density, least):
    """Whether so many of every M are within what is asked."""
    size = sum(net.tensors[n].value.numel() for n in names)
    return not mask.m or budgets.allowance(density, size) >= size * least // mask.m


def check(net, names, pattern, density, shares):
    """Stored numbers, whole units, nothing more that fits."""
    left = density * sum(net.tensors[n].value.numel() for n in names) + 1e-6
    steps = []
    for name in names:
        rows, columns = matrix_shape(net, name)
        levels = pattern.levels(rows, columns)
        units = shares[name] * levels
        assert units == pytest.approx(round(units), abs=1e-6)
        step = rows * columns // levels
        left -= round(units) * step
        if round(units) < levels:
            steps.append(step)
    assert left >= 0
    assert all(step > left - 2e-6 for step in steps)


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(["mlp", "cnn", "attention"]),
    rule=st.sampled_from(RULES),
    pattern=st.sampled_from(PATTERNS),
    density=st.one_of(st.floats(0, 1), st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0])),
)
def test_every_rule_keeps_the_promise_for_every_pattern(kind, rule, pattern, density):
    net, mask = make(kind).net, MaskPattern.parse(pattern)
    names = names_for(net, mask)
    if not names:
        return
    known = {**evidence(rule, kind), **OPTIONS.get(rule, {})}

    def divided():
        return budgets.allocate_masks(rule, net, density, weights=names, pattern=mask, **known)

    if not reachable(net, names, mask, density, 1):
        with pytest.raises(UnreachableTargetError, match=r"ask for a kept share from 0\.\d+ to 1"):
            divided()
        return
    shares = divided()
    check(net, names, mask, density, shares)


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6),
    pattern=st.sampled_from(PATTERNS),
    rule=st.sampled_from(["uniform", "erk", "lamp", "global", "depth-linear"]),
    density=st.floats(0, 1),
)
def test_solvers_carry_out_just_what_was_divided(shapes, pattern, rule, density):
    torch.manual_seed(0)
    mask = MaskPattern.parse(pattern)
    layers = [nn.Linear(4 * c, 4 * r) for r, c in shapes]
    layers = [x for a, b in zip(layers, [*shapes[1:], None], strict=True) for x in joined(a, b)]
    model = nn.Sequential(*layers)
    net = trace(model, (torch.randn(2, 4 * shapes[0][1]),))
    names = names_for(net, mask)
    if not names:
        return
    options = {"slope": 0.1} if rule == "depth-linear" else {}
    if not reachable(net, names, mask, density, 1):
        return
    shares = budgets.allocate_masks(rule, net, density, weights=names, pattern=mask, **options)
    check(net, names, mask, density, shares)
    kept = 0
    for name in names:
        found = solvers.solve(
            "magnitude", net.tensors[name].value, shares[name], mask.at(shares[name])
        )
        kept += int(found.mask.sum())
        rows, columns = matrix_shape(net, name)
        assert int(found.mask.sum()) == round(shares[name] * rows * columns)
    assert kept <= density * sum(net.tensors[n].value.numel() for n in names) + 1e-6


def joined(layer, following):
    """A layer, and another that brings its width to that of the next one."""
    if following is None:
        return [layer]
    return [layer, nn.Linear(layer.out_features, 4 * following[1])]


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(["mlp", "cnn", "attention"]),
    rule=st.sampled_from([n for n in RULES if n != "search"]),
    pattern=st.sampled_from(PATTERNS),
    density=st.one_of(st.floats(0, 1), st.sampled_from([0.3, 0.5, 0.7, 1.0])),
)
def test_masks_beside_low_rank_never_store_more_than_asked(kind, rule, pattern, density):
    net, mask = make(kind).net, MaskPattern.parse(pattern)
    names = names_for(net, mask)
    if not names:
        return
    if rule not in budgets.rules_beside(mask):
        with pytest.raises(ValueError, match=f'"{rule}" cannot divide {pattern} masks'):
            budgets.allocate_beside(rule, net, density, mask, weights=names)
        return
    known = {**evidence(rule, kind), **OPTIONS.get(rule, {})}

    def divided():
        return budgets.allocate_beside(rule, net, density, mask, weights=names, **known)

    if not reachable(net, names, mask, density, mask.n):
        with pytest.raises(UnreachableTargetError, match="ask for a sparsity from 0 to"):
            divided()
        return
    found = divided()
    found.check(net)
    stored, dense = 0, 0
    for name in names:
        rows, columns = matrix_shape(net, name)
        rank, share = found.rank.get(name, 0), found.density[name]
        stored += round(share * rows * columns) + rank * (rows + columns)
        dense += rows * columns
        units = share * mask.levels(rows, columns)
        assert units == pytest.approx(round(units), abs=1e-6)
        if mask.m:
            assert share == mask.n / mask.m
    assert stored <= density * dense + 1e-6
    assert stored == sum(found.stored(net).values())
    if mask.name == "unstructured":
        assert stored >= density * dense - 1
    if mask.m:
        room = [
            sum(matrix_shape(net, n))
            for n in names
            if found.stored(net)[n] + sum(matrix_shape(net, n)) <= net.tensors[n].value.numel()
        ]
        assert all(step > density * dense - stored - 1e-6 for step in room)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["mlp", "cnn", "attention"]),
    rule=st.sampled_from(["uniform", "global"]),
    metric=st.sampled_from(["sparsity", "params", "macs"]),
    share=st.floats(0.2, 1),
)
def test_ranks_alone_meet_every_metric_and_no_rank_more_fits(kind, rule, metric, share):
    case = make(kind)
    net = case.net
    target = {metric: 1 - share if metric == "sparsity" else f"{100 * share}%"}
    names = budgets.prunable_weights(net)
    sizes = {n: net.tensors[n].value.numel() for n in names}
    least = sum(min(size, sum(matrix_shape(net, n))) for n, size in sizes.items())
    if metric == "sparsity" and share * sum(sizes.values()) < least - 1e-6:
        with pytest.raises(UnreachableTargetError, match=r"between 0 and 0\.\d+"):
            budgets.rank_limits(net, names, target)
        return
    if share < 0.6 and metric != "sparsity":
        return
    asked = budgets.rank_limits(net, names, target)
    rank = budgets.allocate_ranks(rule, net, names, target)

    def fits(ranks):
        stored = [
            ranks[n] * sum(matrix_shape(net, n)) if n in ranks else net.tensors[n].value.numel()
            for n in asked.names
        ]
        return all(limit.holds(torch.tensor(stored, dtype=torch.float64)) for limit in asked.limits)

    assert fits(rank)
    if metric == "sparsity":
        stored = sum(
            rank[n] * sum(matrix_shape(net, n)) if n in rank else size for n, size in sizes.items()
        )
        assert stored <= share * sum(sizes.values()) * (1 + 1e-9)
    for name in rank:
        rows, columns = matrix_shape(net, name)
        more = {**rank, name: rank[name] + 1}
        if rank[name] + 1 > rows * columns // (rows + columns):
            del more[name]
        assert not fits(more)


def test_what_masks_leave_alone_has_a_reason():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(8, 6)
            self.wide = nn.Linear(6, 8)
            self.odd = nn.Linear(8, 3)
            self.register_buffer("fixed", torch.randn(3, 4))
            self.wave = nn.Parameter(torch.randn(4, 4, dtype=torch.cfloat))

        def forward(self, x):
            y = self.odd(torch.relu(self.wide(self.embed(x)))) @ self.fixed
            return (y.to(torch.cfloat) @ self.wave).abs()

    net = trace(Mixed(), (torch.arange(4),))
    found = budgets.maskable(net, "block:4x4")
    assert "embedding" in found["embed.weight"]
    assert "buffer" in found["fixed"]
    assert "complex64" in found["wave"]
    assert "6 input columns are not a multiple of 4" in found["wide.weight"]
    assert "3 output rows are not a multiple of 4" in found["odd.weight"]
    assert budgets.prunable_weights(net) == ["wide.weight", "odd.weight"]
    assert budgets.maskable(net, "2:4")["odd.weight"] is None
    assert set(out_dims(net, found)) == set(found)
