"""Budgets of channels and heads: exact by count, whatever the rule."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.cost import count_macs, count_params
from pruners import Target, UnreachableTargetError, budgets, units
from pruners.budgets.problems.widths import place, unit_cost
from pruners.statistics import Imitation
from pruners.statistics.fluctuations import merged, unit_fluctuations
from tests.pruners.conftest import make

OPTIONS = {
    "search": {"evaluations": 12},
    "bernoulli": {"evaluations": 24},
    "price": {"steps": 3},
}
RULES = budgets.rules_for("widths")


def allocated(rule, case, target, **options):
    scores = units.base_scores(case.net)
    evidence = budgets.measured(rule, case.net, [case.inputs], divides="widths")
    given = {**evidence, **OPTIONS.get(rule, {}), **options}
    return budgets.allocate_widths(rule, case.net, scores, target, **given)


def widths(kept):
    return {axis: len(index) for axis, index in kept.items()}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("target", [{"macs": "60%"}, {"params": "50%", "speedup": 1.5}])
def test_every_rule_meets_the_target_with_real_units(case, rule, target):
    kept = allocated(rule, case, target)
    limits = Target.parse(target).limits(case.net)
    for count, limit in limits.items():
        assert count(case.net, widths(kept)) <= limit
    for axis, index in kept.items():
        size = case.net.axes[axis].size
        assert 1 <= len(index) <= size
        assert index.tolist() == sorted(set(index.tolist()))
        assert index.max() < size


@pytest.mark.parametrize("rule", ["uniform", "global", "flap", "price", "search", "bernoulli"])
def test_the_cut_is_tight(cnn, rule):
    """One more unit of some axis would break the target."""
    kept = widths(allocated(rule, cnn, {"macs": "60%"}))
    limit = 0.6 * count_macs(cnn.net)
    more = [
        {**kept, axis: width + 1} for axis, width in kept.items() if width < cnn.net.axes[axis].size
    ]
    assert any(count_macs(cnn.net, sizes) > limit for sizes in more)


@pytest.mark.parametrize("rule", ["price", "search", "bernoulli"])
@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_rules_that_measure_are_never_worse_than_their_start(rule, name):
    case = make(name)
    loss = Imitation(case.model, [case.inputs])
    scores = units.base_scores(case.net)
    target = {"macs": "55%"}
    problem = budgets.WidthProblem(case.net, scores, target, loss)
    start = budgets.allocate_widths("global", case.net, scores, target)
    found = budgets.allocate_widths(
        rule, case.net, scores, target, loss=loss, **OPTIONS.get(rule, {})
    )
    assert problem.loss_of(found) <= problem.loss_of(start) + 1e-12


def test_place_is_the_projection_of_widths():
    """The units above a threshold −ν are the share σ(θ + ν) of each axis."""
    generator = torch.Generator().manual_seed(0)
    scores = {"a": torch.rand(40, generator=generator), "b": torch.rand(25, generator=generator)}
    logits = {"a": torch.tensor(0.7), "b": torch.tensor(-1.1)}
    placed = place(scores, logits)
    for shift in (-2.0, -0.3, 0.0, 1.4):
        for axis, score in scores.items():
            kept = placed[axis] >= -shift
            share = torch.sigmoid(logits[axis] + shift).item()
            assert abs(int(kept.sum()) - share * score.numel()) <= 0.5 + 1e-9
            if 0 < kept.sum() < score.numel():
                assert score[kept].min() > score[~kept].max()


def test_widths_of_a_problem_follow_their_logits():
    case = make("cnn")
    scores = units.base_scores(case.net)
    loss = Imitation(case.model, [case.inputs])
    problem = budgets.WidthProblem(case.net, scores, {"macs": "50%"}, loss)
    assert problem.dials == ("stem.out", "conv1.out")
    flat = problem.realise(torch.zeros(2))
    tilted = problem.realise(torch.tensor([2.0, -2.0]))
    assert tilted[0] > flat[0]
    assert tilted[1] < flat[1]
    again = problem.realise(problem.logits(flat))
    assert max(abs(a - b) for a, b in zip(again, flat, strict=True)) <= 1
    costs = unit_cost(case.net, problem.target, {"stem.out": 5, "conv1.out": 6})
    limit = 0.5 * count_macs(case.net)
    less = count_macs(case.net, {"stem.out": 5, "conv1.out": 6}) - count_macs(
        case.net, {"stem.out": 4, "conv1.out": 6}
    )
    assert costs[0].item() == pytest.approx(less / limit)


def test_prices_of_widths_have_the_sign_of_what_a_unit_does():
    """A layer whose units all matter, before one whose units are copies of one another."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 5)
    ).double()
    with torch.no_grad():
        # The units of the second layer are alike, and each adds a sixteenth of almost nothing.
        model[2].weight.copy_(model[2].weight[:1].expand(16, 16) * 1e-2)
        model[2].bias.zero_()
        model[4].weight.copy_(model[4].weight[:, :1].expand(5, 16) * 1e-2)
    x = torch.randn(64, 12, dtype=torch.float64)
    skip = nn.Linear(16, 5).double()

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.out, self.skip = model[0], model[2], model[4], skip

        def forward(self, x):
            h = torch.relu(self.first(x))
            return self.out(torch.relu(self.second(h))) + self.skip(h)

    two = Two().eval()
    net = trace(two, (x,))
    loss = Imitation(two, [x])
    scores = units.base_scores(net)
    problem = budgets.WidthProblem(net, scores, {"params": "60%"}, loss)
    choice = problem.realise(torch.zeros(len(problem.dials)))
    _, prices = problem.prices(choice)
    price = dict(zip(problem.dials, prices.tolist(), strict=True))
    assert price["first.out"] < 0
    assert abs(price["second.out"]) < 0.01 * abs(price["first.out"])
    found = budgets.allocate_widths("price", net, scores, {"params": "60%"}, loss=loss)
    start = budgets.allocate_widths("global", net, scores, {"params": "60%"})
    assert problem.loss_of(found) <= problem.loss_of(start)
    assert len(found["first.out"]) > len(found["second.out"])


def test_fluctuations_are_variances_times_squared_weights_in_any_split():
    case = make("mlp")
    x = torch.randn(50, 6, dtype=torch.float64) + 1000.0
    whole = unit_fluctuations(case.net, case.model, [x])
    parts = unit_fluctuations(case.net, case.model, [x[:7], x[7:8], x[8:]])
    hidden = torch.relu(case.model[0](x))
    expected = hidden.var(0, correction=0) * case.model[2].weight.square().sum(0)
    torch.testing.assert_close(whole["0.out"], expected.detach())
    for axis, value in whole.items():
        torch.testing.assert_close(parts[axis], value, rtol=1e-8, atol=1e-9)
    with pytest.raises(ValueError, match="at least one calibration batch"):
        unit_fluctuations(case.net, case.model, [])


def test_merged_moments_are_those_of_both():
    x = torch.randn(9, 3, dtype=torch.float64)

    def moments(y):
        return len(y), y.mean(0), (y - y.mean(0)).square().sum(0)

    both = merged(moments(x[:2]), moments(x[2:]))
    for found, expected in zip(both[1:], moments(x)[1:], strict=True):
        torch.testing.assert_close(found, expected)


def test_flap_cuts_what_does_not_fluctuate():
    case = make("mlp")
    scores = units.base_scores(case.net)
    seen = {axis: torch.ones_like(score) for axis, score in scores.items()}
    seen["0.out"][3] = 100.0
    kept = budgets.allocate_widths(
        "flap", case.net, scores, {"macs": "40%"}, fluctuations=seen, min_units=1
    )
    assert 3 in kept["0.out"].tolist()


def test_manual_widths_hold_and_the_rest_makes_up(cnn):
    scores = units.base_scores(cnn.net)
    target = {"params": "60%"}
    kept = budgets.allocate_widths({"stem.*": 6}, cnn.net, scores, target)
    assert len(kept["stem.out"]) == 6
    assert count_params(cnn.net, widths(kept)) <= 0.6 * count_params(cnn.net)
    assert kept["stem.out"].tolist() == scores["stem.out"].topk(6).indices.sort().values.tolist()
    half = budgets.allocate_widths({"*": 0.5}, cnn.net, scores, {"macs": "50%"})
    assert widths(half) == {"stem.out": 4, "conv1.out": 6}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"head": 0.5}, "neither the name of a prunable axis"),
        ({"stem.out": 9}, "has 8 units"),
        ({"stem.out": 0}, "has 8 units"),
        ({"stem.out": 1.2}, "has 8 units"),
        ({"*": 1.0}, "the given widths cost"),
    ],
)
def test_manual_widths_that_cannot_be_are_refused(cnn, values, words):
    scores = units.base_scores(cnn.net)
    with pytest.raises(ValueError, match=words):
        budgets.allocate_widths(values, cnn.net, scores, {"macs": "50%"})


def test_widths_that_leave_too_little_to_cut_are_out_of_reach(cnn):
    scores = units.base_scores(cnn.net)
    with pytest.raises(UnreachableTargetError):
        budgets.allocate_widths({"stem.out": 8}, cnn.net, scores, {"macs": "10%"})


def test_names_and_evidence_are_checked(cnn):
    scores = units.base_scores(cnn.net)
    with pytest.raises(ValueError, match='"lamp" cannot divide widths: expected one of'):
        budgets.allocate_widths("lamp", cnn.net, scores, {"macs": "50%"})
    with pytest.raises(ValueError, match='"flap" needs variances of units, measured'):
        budgets.allocate_widths("flap", cnn.net, scores, {"macs": "50%"})
    with pytest.raises(ValueError, match='"global" does not read "loss"'):
        budgets.allocate_widths("global", cnn.net, scores, {"macs": "50%"}, loss=print)
    with pytest.raises(ValueError, match="needs calibration batches to find its slope"):
        budgets.allocate_widths("depth-linear", cnn.net, scores, {"macs": "50%"})
    with pytest.raises(ValueError, match="already registered"):
        budgets.rule("global", divides="widths")(print)
