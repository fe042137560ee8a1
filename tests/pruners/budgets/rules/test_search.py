"""Search: never worse than its start, exact, the same for the same seed, resumable."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruners import budgets, units
from pruners.budgets.rules.bernoulli import mask_gradient
from pruners.budgets.searching.judge import Judge
from pruners.budgets.searching.policy_gradient import antithetic, cut_gaussian, variance
from pruners.statistics import Imitation
from tests.pruners.conftest import make

METHODS = ["evolution", "policy-gradient"]


def problem_of(case, density=0.3):
    loss = Imitation(case.model, [case.inputs])
    weights = {n: case.net.tensors[n].value for n in budgets.prunable_weights(case.net)}
    return budgets.MaskProblem(weights, density, loss)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("start", ["uniform", "lamp"])
def test_search_is_better_than_its_start_and_exact(method, start):
    case = make("cnn")
    problem = problem_of(case)
    first = problem.start(budgets.allocate_masks(start, case.net, 0.3))
    choice, value = budgets.best_choice(problem, first, 60, method, seed=1)
    assert sum(choice) == problem.total
    assert value == pytest.approx(problem.loss(choice))
    assert value < problem.loss(problem.realise(first))


@pytest.mark.parametrize("method", METHODS)
def test_more_evaluations_of_evolution_are_never_worse_and_one_is_the_start(method):
    case = make("mlp")
    problem = problem_of(case)
    first = problem.start(budgets.allocate_masks("uniform", case.net, 0.3))
    choice, _ = budgets.best_choice(problem, first, 1, method)
    assert choice == problem.realise(first)
    found = [budgets.best_choice(problem, first, n, "evolution")[1] for n in (1, 10, 40)]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_says_it_all(method):
    case = make("mlp")
    found = [
        budgets.allocate_masks(
            "search", case.net, 0.4, loss=Imitation(case.model, [case.inputs]),
            evaluations=20, method=method, seed=seed,
        )
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("torn", [False, True])
def test_an_interrupted_search_ends_as_if_it_had_not_been(tmp_path, method, torn):
    case = make("mlp")
    problem = problem_of(case)
    first = problem.start(budgets.allocate_masks("lamp", case.net, 0.3))
    whole = budgets.best_choice(problem, first, 24, method)
    path = tmp_path / "runs" / "search.jsonl"
    measure, count = problem.loss, 0

    def power_cut(choice):
        nonlocal count
        count += 1
        if count > 9:
            raise KeyboardInterrupt
        return measure(choice)

    problem.loss = power_cut
    with pytest.raises(KeyboardInterrupt):
        budgets.best_choice(problem, first, 24, method, journal=path)
    if torn:
        with path.open("a", encoding="utf-8") as file:
            file.write('{"choice": [1, 2')
    fresh = 0

    def counted(choice):
        nonlocal fresh
        fresh += 1
        return measure(choice)

    problem.loss = counted
    assert budgets.best_choice(problem, first, 24, method, journal=path) == whole
    assert fresh == 24 - 9 + 1  # the start is measured again, to know that nothing changed
    assert len(path.read_text(encoding="utf-8").splitlines()) == 25
    assert os.listdir(path.parent) == [path.name]


def test_a_journal_of_something_else_is_refused(tmp_path):
    case = make("mlp")
    problem = problem_of(case)
    first = problem.start(budgets.allocate_masks("lamp", case.net, 0.3))
    path = tmp_path / "search.jsonl"
    budgets.best_choice(problem, first, 5, journal=path)
    with pytest.raises(ValueError, match="journal of another search"):
        budgets.best_choice(problem, first, 5, seed=1, journal=path)
    measure = problem.loss
    problem.loss = lambda choice: 2 * measure(choice)
    with pytest.raises(ValueError, match="weights or calibration data have changed"):
        budgets.best_choice(problem, first, 5, journal=path)
    path.write_text(json.dumps([1]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="is not the journal of a search"):
        budgets.best_choice(problem, first, 5, journal=path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not the journal of a search"):
        budgets.best_choice(problem, first, 5, journal=path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": "x"}, "seed takes a whole number of 64 bits"),
        ({"seed": 1.5}, "seed takes"),
        ({"seed": True}, "seed takes"),
        ({"seed": 1 << 64}, "seed takes"),
        ({"journal": 5}, "journal takes the path of a file"),
        ({"journal": ""}, "journal takes"),
        ({"journal": "."}, "journal takes"),
    ],
)
@pytest.mark.parametrize("rule", ["search", "expected-loss"])
@pytest.mark.parametrize("divides", ["masks", "widths"])
def test_options_that_no_search_takes_are_refused(rule, divides, options, words):
    case = make("mlp")
    x = torch.randn(64, 6, dtype=torch.float64)
    measured = budgets.measured(rule, case.net, [x], divides=divides)
    asked = (
        partial(budgets.allocate_masks, rule, case.net, 0.3)
        if divides == "masks"
        else partial(
            budgets.allocate_widths, rule, case.net, units.base_scores(case.net), {"macs": "50%"}
        )
    )
    with pytest.raises(ValueError, match=words):
        asked(**measured, **options)


def test_the_judge_measures_once_and_counts_only_that():
    seen = []

    def measure(choice):
        seen.append(choice)
        return float(sum(choice))

    judge = Judge(measure, 2)
    assert [judge((3,)), judge((3,)), judge((1,))] == [3.0, 3.0, 1.0]
    assert seen == [(3,), (1,)]
    assert judge.best == (1.0, (1,))
    assert judge.spent
    with pytest.raises(ValueError, match="at least one evaluation"):
        Judge(measure, 0)
    with pytest.raises(ValueError, match="not finite at evaluation 1"):
        Judge(lambda choice: float("nan"), 2)((1,))


def test_settings_of_a_search_that_make_no_sense_are_refused():
    case = make("mlp")
    loss = Imitation(case.model, [case.inputs])
    with pytest.raises(ValueError, match='unknown search "x": expected one of evolution'):
        budgets.allocate_masks("search", case.net, 0.4, loss=loss, method="x")
    with pytest.raises(ValueError, match='"search" needs the loss of pruned'):
        budgets.allocate_masks("search", case.net, 0.4)
    for density in (0.0, 1.0):
        shares = budgets.allocate_masks("search", case.net, density, loss=loss)
        assert set(shares.values()) == {density}


@settings(max_examples=20, deadline=None)
@given(cut=st.floats(0.1, 3.0), seed=st.integers(0, 99))
def test_a_pair_estimates_the_gradient_of_a_linear_loss_without_bias(cut, seed):
    generator = torch.Generator().manual_seed(seed)
    slope = torch.randn(5, generator=generator, dtype=torch.float64)
    sigma, pairs = 0.3, 4000
    noise = cut_gaussian(5 * pairs, cut, generator).reshape(pairs, 5)
    assert noise.abs().max() <= cut
    assert noise.square().mean().item() == pytest.approx(variance(cut), rel=0.05)
    gap = 2 * sigma * noise @ slope
    found = antithetic(gap[:, None], noise, sigma, cut).mean(0)
    torch.testing.assert_close(found, slope, rtol=0, atol=0.25)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99))
def test_opposite_masks_estimate_the_gradient_of_a_linear_loss_without_bias(seed):
    generator = torch.Generator().manual_seed(seed)
    slope = torch.randn(6, generator=generator, dtype=torch.float64)
    s = 0.15 + 0.7 * torch.rand(6, generator=generator, dtype=torch.float64)
    v = torch.rand(20000, 6, generator=generator, dtype=torch.float64)
    one, other = v < s, v > 1 - s
    torch.testing.assert_close(one.double().mean(0), s, rtol=0, atol=0.02)
    torch.testing.assert_close(other.double().mean(0), s, rtol=0, atol=0.02)
    gap = (one.double() - other.double()) @ slope
    found = mask_gradient(gap[:, None], one, other, s).mean(0)
    torch.testing.assert_close(found, slope, rtol=0, atol=0.2)


@pytest.mark.slow
def test_search_beats_its_start_on_a_trained_network_for_three_seeds():
    """ResNet-20 on CIFAR-10 at 80 % sparsity, 200 evaluations from the better of two rules."""
    from training import data as datasets
    from training import sources

    root = os.environ.get("METAPRUNE_DATA")
    if not root:
        pytest.skip("set METAPRUNE_DATA to a folder with cifar10 and models/cifar10-resnets")
    folder = Path(root)
    data = datasets.load("cifar10", path=str(folder / "cifar10"))
    model = sources.load(
        "family", family="cifar_resnet", options={"depth": 20, "width": 16},
        path=str(folder / "models" / "cifar10-resnets" / "resnet20-12fca82f.th"),
    ).eval()  # fmt: skip
    from graphs import trace

    net = trace(model, data.example_inputs())
    # Fewer images are learned by heart: with 128, what was found does worse on others.
    loss, judge = (
        Imitation(model, [(x,) for x, _ in data.calibration(512, 128, seed)], recalibrated=True)
        for seed in (0, 1)
    )
    weights = {n: net.tensors[n].value for n in budgets.prunable_weights(net)}
    problem = budgets.MaskProblem(weights, 0.2, loss)
    starts = [problem.start(budgets.allocate_masks(rule, net, 0.2)) for rule in ("lamp", "global")]
    start = min(starts, key=lambda logits: problem.loss(problem.realise(logits)))
    before = judge.value(problem.masked(problem.realise(start)))
    held_out = []
    for seed in range(3):
        choice, value = budgets.best_choice(problem, start, 200, seed=seed)
        assert sum(choice) == problem.total
        assert value < 0.9 * problem.loss(problem.realise(start))
        held_out.append(judge.value(problem.masked(choice)))
    assert sum(held_out) / 3 < before
