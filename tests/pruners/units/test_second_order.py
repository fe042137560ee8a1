"""Second-order scores of units, against the definition."""

from __future__ import annotations

import pytest
import torch

from graphs import trace
from pruners.recovery.refit import input_moments, refit
from pruners.units import select
from pruners.units.second_order import second_order_scores
from tests.pruners.conftest import make
from tests.pruners.networks import mlp, randomized
from tests.pruners.recovery.test_refit import CONSUMERS, consumer, cut


def without(net, axis, gone):
    size = net.axes[axis].size
    return {axis: torch.tensor([i for i in range(size) if i not in gone])}


@pytest.mark.parametrize("name", sorted(set(CONSUMERS) - {"concatenated"}))
def test_the_cheapest_unit_costs_what_a_refit_leaves(name):
    """The first unit of a greedy order is the one whose removal and refit loses least."""
    model, net, x = consumer(name)
    moments = input_moments(net, model, [x])
    [axis] = cut(net)
    size = net.axes[axis].size
    scores = second_order_scores(net, moments, rounds=size, damping=0.0)[axis]
    true = torch.tensor(
        [
            refit(net, without(net, axis, [u]), moments, 0.0).errors["b.weight"][1]
            for u in range(size)
        ],
        dtype=torch.float64,
    )
    first = int(scores.argmin())
    assert first == int(true.argmin())
    assert scores[first] == pytest.approx(true[first].item(), rel=1e-6)


def test_costs_add_up_to_the_error_of_the_refit():
    """One unit at a time, downdates are exact: the sum of costs is the error in the end."""
    model, net, x = consumer("padded")
    moments = input_moments(net, model, [x])
    scores = second_order_scores(net, moments, rounds=8, damping=0.0)["a.out"]
    order = scores.argsort()
    errors = [
        refit(net, without(net, "a.out", order[: n + 1].tolist()), moments, 0.0).errors["b.weight"]
        for n in range(6)
    ]
    for n, (_, after) in enumerate(errors):
        assert scores[order[: n + 1]].sum().item() == pytest.approx(after, rel=1e-6)


def test_an_axis_with_several_readers_sums_them():
    """Concatenations: units of `a` are read by two layers, and both count."""
    model, net, x = consumer("concatenated")
    moments = input_moments(net, model, [x])
    scores = second_order_scores(net, moments, rounds=6, damping=0.0)
    assert {axis: len(score) for axis, score in scores.items()} == {"a.out": 6, "b.out": 5}
    first = int(scores["a.out"].argmin())
    errors = refit(net, without(net, "a.out", [first]), moments, 0.0).errors
    assert set(errors) == {"b.weight", "c.weight"}
    total = sum(after for _, after in errors.values())
    assert scores["a.out"][first].item() == pytest.approx(total, rel=1e-6)


def test_units_that_others_explain_are_free_until_those_go():
    """Two equal units cost nothing for the first of them, and what they are worth for the other."""
    model = randomized(mlp().double())
    with torch.no_grad():
        for parameter in model[0].parameters():
            parameter[7] = parameter[2]
    x = torch.randn(60, 6, dtype=torch.float64)
    net = trace(model, (x[:3],))
    score = second_order_scores(net, input_moments(net, model, [x]), rounds=10, damping=1e-9)
    low, high = score["0.out"][[2, 7]].sort().values.tolist()
    assert low == score["0.out"].min().item() < 1e-6 < high


def test_the_order_beats_magnitude_after_the_refit():
    """What the scores are for: a smaller error with as many units."""
    ours, theirs = [], []
    for seed in range(4):
        model, net, x = consumer("padded", seed)
        moments = input_moments(net, model, [x])
        score = second_order_scores(net, moments, rounds=8, damping=0.0)["a.out"]
        norm = model.a.weight.detach().flatten(1).norm(dim=1)
        for scores, errors in ((score, ours), (norm, theirs)):
            kept = {"a.out": scores.argsort(descending=True)[:4].sort().values}
            errors.append(refit(net, kept, moments, 0.0).errors["b.weight"][1])
    assert sum(ours) < 0.9 * sum(theirs)
    assert all(a <= b * 1.05 for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("rounds", [1, 3, 100])
@pytest.mark.parametrize("gradient", [False, True])
def test_every_rule_gives_finite_scores_that_select_can_cut(case, rounds, gradient):
    """Heads, kernels and singular statistics included."""
    moments = input_moments(case.net, case.model, [case.inputs])
    scores = second_order_scores(case.net, moments, rounds=rounds, gradient=gradient)
    assert scores
    for axis, score in scores.items():
        assert score.shape == (case.net.axes[axis].size,)
        assert score.isfinite().all()
        if not gradient:
            assert (score >= -1e-12).all()
    kept = select(case.net, scores, {"params": "70%"})
    assert set(kept) == set(scores)


def test_heads_are_scored_as_blocks():
    case = make("attention")
    tokens = torch.randint(0, 11, (30, 6), generator=torch.Generator().manual_seed(0))
    moments = input_moments(case.net, case.model, [tokens])
    axes = [n for n, a in case.net.axes.items() if a.kind == "head" and a.frozen is None]
    scores = second_order_scores(case.net, moments, axes, rounds=100, damping=1e-9)
    assert set(scores) <= set(axes)
    for axis, score in scores.items():
        first = int(score.argmin())
        found = refit(case.net, without(case.net, axis, [first]), moments, 1e-9).errors
        total = sum(after for _, after in found.values())
        assert score[first].item() == pytest.approx(total, rel=1e-3)


def test_the_first_order_term_changes_the_scores():
    model, net, x = consumer("linear")
    moments = input_moments(net, model, [x])
    plain = second_order_scores(net, moments)["a.out"]
    corrected = second_order_scores(net, moments, gradient=True)["a.out"]
    assert not torch.allclose(plain, corrected)


def test_unmeasured_axes_are_left_out():
    assert second_order_scores(consumer("linear")[1], {}) == {}
