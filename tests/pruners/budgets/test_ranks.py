"""Ranks under the limits of a target: exact, and as good as the rules promise."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from graphs import trace
from graphs.cost import count_macs, count_params
from pruners import Target, UnreachableTargetError, budgets
from pruners.budgets.problems.limits import limits
from pruners.budgets.problems.spectrum import Spectrum
from pruners.budgets.rules.global_threshold import global_ranks
from pruners.solvers.matrix import out_dims
from pruners.statistics import Imitation, input_statistics
from tests.pruners.conftest import make


def problem_of(case, target, loss=None, statistics=None):
    found = budgets.rank_limits(case.net, budgets.prunable_weights(case.net), target)
    sides = out_dims(case.net, found.names)
    spectra = {
        n: Spectrum.of(case.net.tensors[n].value, sides[n], (statistics or {}).get(n))
        for n in found.names
    }
    return budgets.RankProblem(spectra, found.limits, loss)


TARGETS = ({"macs": "60%"}, {"params": "50%"}, {"sparsity": 0.4}, {"size_mb": "70%", "macs": "80%"})


@cache
def cnn_problem(index):
    return problem_of(make("cnn"), TARGETS[index])


@pytest.mark.parametrize("index", range(len(TARGETS)), ids=[str(t) for t in TARGETS])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=15)
def test_limits_hold_and_no_level_more_would_fit(index, seed):
    problem = cnn_problem(index)
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(len(problem.dials), generator=generator, dtype=torch.float64)
    levels = torch.tensor(problem.realise(logits), dtype=torch.float64)
    assert problem.fits(levels)
    assert ((levels >= 1) & (levels <= problem.most + 1)).all()
    for i in range(len(levels)):
        more = levels.clone()
        more[i] += 1
        assert levels[i] == problem.most[i] + 1 or not problem.fits(more)


def test_larger_logits_never_give_fewer_ranks():
    problem = cnn_problem(0)
    theta = torch.zeros(len(problem.dials), dtype=torch.float64)
    before = -1
    for value in torch.linspace(-4, 4, 17):
        theta[1] = value
        now = problem.realise(theta)[1]
        assert now >= before
        before = now


def test_metrics_are_those_of_the_factored_network():
    """Limits count what a network with these factors costs."""
    case = make("cnn")
    names = list(budgets.rank_limits(case.net, budgets.prunable_weights(case.net), TARGETS[0])[0])
    for metric, count in (("macs", count_macs), ("params", count_params)):
        target = Target.parse({metric: "60%"})
        [limit] = limits(case.net, target, names, torch.ones(len(names), dtype=torch.float64))
        sizes = [case.net.tensors[n].value.numel() for n in names]
        dense = float((limit.cost * torch.tensor(sizes, dtype=torch.float64)).sum())
        rest = count(case.net) - dense
        assert rest >= 0
        assert limit.room == pytest.approx(0.6 * count(case.net) - rest)


def test_a_number_of_units_is_refused():
    case = make("cnn")
    with pytest.raises(ValueError, match='prune "channels"'):
        budgets.rank_limits(case.net, budgets.prunable_weights(case.net), {"units": "50%"})


@pytest.mark.parametrize("rule", ["uniform", "global"])
def test_full_budget_leaves_everything_dense(rule):
    case = make("cnn")
    names = budgets.prunable_weights(case.net)
    assert budgets.allocate_ranks(rule, case.net, names, {"params": "100%"}) == {}


def test_one_threshold_is_the_best_choice():
    """The rule "global" against every choice there is, on the sum of relative output errors."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6)).double()
    x = torch.randn(50, 5, dtype=torch.float64)
    net = trace(model, (x,))
    names = budgets.prunable_weights(net)
    statistics = input_statistics(model, [x], names, ("hessian",))
    for share in ("45%", "60%", "75%"):
        found = budgets.rank_limits(net, names, {"params": share})
        spectra = {n: Spectrum.of(net.tensors[n].value, 0, statistics[n]) for n in found.names}
        problem = budgets.RankProblem(spectra, found.limits)

        def caught(choice, spectra=spectra):
            pairs = zip(spectra.values(), choice, strict=True)
            return sum(1.0 if k > s.most else float(s.energy[:k].sum()) for s, k in pairs)

        ways = itertools.product(*(range(1, int(m) + 2) for m in problem.most))
        fitting = [w for w in ways if problem.fits(torch.tensor(w, dtype=torch.float64))]
        best = max(map(caught, fitting))
        ours = caught(global_ranks(problem))
        # One threshold is optimal but for what a single last level may add.
        step = max(float(s.worth()[0]) * s.step for s in spectra.values())
        assert best - step < ours <= best + 1e-12


def test_worth_never_rises_and_adds_up():
    for name in ("cnn", "mlp", "attention"):
        case = make(name)
        for spectrum in problem_of(case, {"params": "90%"}).spectra.values():
            worth = spectrum.worth()
            assert len(worth) == spectrum.most + 1
            assert (worth.diff() <= 1e-12).all()
            # A jump over the last ranks is worth the same for each of the numbers it adds.
            numbers = torch.tensor([spectrum.stored(k) for k in range(spectrum.most + 2)]).diff()
            assert float((worth * numbers).sum()) == pytest.approx(1.0, abs=1e-6)


def test_gain_is_the_slope_of_the_loss():
    case = make("cnn")
    loss = Imitation(case.model, [case.inputs])
    problem = problem_of(case, {"params": "60%"}, loss)
    choice = problem.realise(torch.zeros(len(problem.dials), dtype=torch.float64))
    values = problem.values(choice)
    _, gradients = loss(values)
    for name, level in zip(problem.dials, choice, strict=True):
        spectrum = problem.spectra[name]
        if level > spectrum.most:
            continue
        change = spectrum.value(level + 1) - spectrum.value(level)
        small = 1e-5
        moved = {**values, name: values[name] + small * change}
        slope = (loss(moved)[0] - loss(values)[0]) / small
        assert spectrum.gain(gradients[name], level) == pytest.approx(slope, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("rule", ["price", "search"])
def test_measuring_rules_are_never_worse_than_their_start(rule):
    case = make("cnn")
    loss = Imitation(case.model, [case.inputs])
    problem = problem_of(case, {"params": "50%"}, loss)
    options = {"steps": 4} if rule == "price" else {"evaluations": 12}
    found = problem.loss(budgets.RULES[rule].functions["ranks"](problem, loss=loss, **options))
    assert found <= problem.loss(global_ranks(problem))


def test_given_shares_are_kept_and_the_rest_makes_up():
    case = make("cnn")
    names = budgets.prunable_weights(case.net)
    rank = budgets.allocate_ranks({"conv1.weight": 0.25}, case.net, names, {"sparsity": 0.5})
    rows, columns = 12, 72
    assert rank["conv1.weight"] == int(0.25 * rows * columns / (rows + columns))
    dense = budgets.allocate_ranks({"conv1*": 1}, case.net, names, {"sparsity": 0.3})
    assert "conv1.weight" not in dense
    with pytest.raises(ValueError, match="cost more than the target allows"):
        budgets.allocate_ranks({"conv*": 1.0}, case.net, names, {"sparsity": 0.6})


def test_what_cannot_be_is_said():
    case = make("cnn")
    names = budgets.prunable_weights(case.net)
    with pytest.raises(UnreachableTargetError, match=r"macs 1% is out of reach: low rank in \d"):
        budgets.allocate_ranks("uniform", case.net, names, {"macs": "1%"})
    with pytest.raises(ValueError, match="measured on calibration batches"):
        budgets.allocate_ranks("price", case.net, names, {"macs": "60%"})
    with pytest.raises(ValueError, match='"erk" cannot divide ranks: expected one of'):
        budgets.allocate_ranks("erk", case.net, names, {"macs": "60%"})
    with pytest.raises(ValueError, match='does not read "steps"'):
        budgets.allocate_ranks("uniform", case.net, names, {"macs": "60%"}, steps=3)
    with pytest.raises(ValueError, match="no weight is large enough"):
        budgets.allocate_ranks("uniform", case.net, [], {"macs": "60%"})
