"""The surrogate: exact on the budget, no worse than where it began, and right about what it saw."""

from __future__ import annotations

import math

import pytest
import torch

from pruners.budgets.problems.masks import MaskProblem
from pruners.budgets.searching.judge import Judge
from pruners.budgets.searching.surrogate import Posterior, improve, mutated
from pruners.curves import Curve, SumOfLosses

SIZES = {"a": 40, "b": 80, "c": 60, "d": 20, "e": 100}
GRID = [i / 10 for i in range(11)]


def problem(density=0.4):
    generator = torch.Generator().manual_seed(0)
    weights = {n: torch.randn(size // 4, 4, generator=generator) for n, size in SIZES.items()}
    return MaskProblem(weights, density, None)


def curve(strength):
    return Curve.of(GRID, [strength * (1 - x) ** 2 for x in GRID])


def value(problem, strengths=(1.0, 1.0, 1.0, 1.0, 1.0)):
    curves = {name: curve(s) for name, s in zip(SIZES, strengths, strict=True)}
    return SumOfLosses(problem.dials, curves, problem.levels.whole)


def even(problem):
    return problem.realise(torch.zeros(len(problem.dials), dtype=torch.float64))


def searched(given, truth, evaluations, seed=0, **more):
    with Judge(lambda c: float(truth.log_damage([c]).exp()), evaluations, "test") as judge:
        generator = torch.Generator().manual_seed(seed)
        return improve(given, value(given), [even(given)], judge, generator, **more)


@pytest.mark.parametrize("seed", range(5))
def test_mutations_stay_on_the_budget(seed):
    given = problem()
    generator = torch.Generator().manual_seed(seed)
    choice = even(given)
    for _ in range(20):
        choice = mutated(given, choice, generator)
        assert given.levels.stored(choice) == given.total


def test_losses_are_those_of_the_curves_and_add_up():
    given = problem()
    expected = value(given, (1, 2, 3, 4, 5))
    choices = [even(given), (40, 0, 60, 20, 0)]
    rows = [
        [
            curve(s).at(k / n)
            for s, k, n in zip((1, 2, 3, 4, 5), choice, SIZES.values(), strict=True)
        ]
        for choice in choices
    ]
    assert torch.allclose(expected.losses(choices), torch.tensor(rows).double().clamp_min(1e-12))
    assert torch.allclose(expected.log_damage(choices), torch.tensor(rows).double().sum(1).log())


def test_the_posterior_is_that_of_the_whole_normal_distribution():
    """Against conditioning the joint covariance of what was judged and what was not."""
    given, generator = problem(), torch.Generator().manual_seed(1)
    choices = [even(given)]
    while len(choices) < 9:
        choices = list(dict.fromkeys([*choices, mutated(given, choices[-1], generator)]))
    expected = value(given)
    seen, others = choices[:6], choices[6:]
    damage = {c: 0.1 + float(torch.rand((), generator=generator)) for c in seen}
    mean, deviation = Posterior(given, expected, damage, 0.2)(others)

    losses = expected.losses(choices)
    shares = losses / losses.sum(1, keepdim=True)
    logits = torch.stack([given.logits(c).clamp(-5, 5) for c in choices])
    joint = torch.empty(9, 9, dtype=torch.float64)
    for i in range(9):
        for j in range(9):
            near = math.exp(-float((logits[i] - logits[j]).square().sum()) / 2 / 5)
            joint[i, j] = 0.5**2 * shares[i] @ shares[j] + 0.2**2 * near + 25.0
    noisy = joint[:6, :6] + (0.03**2 + 0.2**2) * torch.eye(6)
    found = torch.tensor([math.log(d) for d in damage.values()]).double()
    rest = found - expected.log_damage(seen)
    wanted = expected.log_damage(others) + joint[6:, :6] @ torch.linalg.solve(noisy, rest)
    left = joint[6:, 6:] - joint[6:, :6] @ torch.linalg.solve(noisy, joint[:6, 6:])
    assert torch.allclose(mean, wanted, atol=1e-6)
    assert torch.allclose(deviation, left.diagonal().sqrt(), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_dial_that_costs_more_than_expected_is_found_out(seed):
    given = problem()
    truth = value(given, (8.0, 1.0, 0.2, 1.0, 1.0))
    best, proposals = searched(given, truth, 14, seed)
    first, last = proposals[0].measured, float(truth.log_damage([best]).exp())
    assert last < 0.85 * first
    assert best[0] > proposals[0].choice[0]
    assert best[2] < proposals[0].choice[2]


def test_what_is_expected_is_taken_where_it_is_true():
    """Nothing to correct: predictions are right from the second one on."""
    given = problem()
    _, proposals = searched(given, value(given), 6)
    for one in proposals[2:]:
        assert one.predicted == pytest.approx(one.measured, rel=1e-3)


def test_the_same_seed_finds_the_same_and_another_differs():
    given, truth = problem(), value(problem(), (3.0, 1.0, 0.5, 2.0, 1.0))
    one, two = searched(given, truth, 7), searched(given, truth, 7)
    assert one == two
    assert searched(given, truth, 7, seed=1)[1] != one[1]


def test_luck_is_not_taken_for_merit():
    """Damages that are all noise: the choice that was lucky once is not the best by all of them."""
    given, generator = problem(), torch.Generator().manual_seed(0)

    def lucky(choice):
        return math.exp(0.5 * float(torch.randn((), generator=generator)))

    with Judge(lucky, 12, "test") as judge:
        best, proposals = improve(
            given, value(given), [even(given)], judge, torch.Generator().manual_seed(0),
            chance=lambda: 0.5,
        )  # fmt: skip
    truth = value(given)
    lucky_one = min(proposals, key=lambda one: one.measured).choice
    expected = {c: float(truth.log_damage([c])) for c in (best, lucky_one, proposals[0].choice)}
    assert expected[best] <= expected[lucky_one] + 0.05


def test_a_search_without_anything_new_ends():
    """Where a budget leaves one choice alone."""
    given = problem(density=1.0)
    best, proposals = searched(given, value(given), 10)
    assert [one.choice for one in proposals] == [best]
    assert best == tuple(SIZES.values())


@pytest.mark.parametrize("alive", ["most", "few", "not the first"])
def test_what_lost_its_function_is_never_taken_nor_believed(alive, tmp_path):
    given, lost = problem(), []

    def measure(choice):
        dead = {
            "most": choice[0] > 20,
            "few": choice[0] < 20,
            "not the first": choice == even(given),
        }[alive]
        lost.append(dead)
        return math.inf if dead else float(value(given, (3, 1, 1, 1, 1)).log_damage([choice]).exp())

    for _ in range(2):  # the second time from the journal
        generator, journal = torch.Generator().manual_seed(0), tmp_path / "journal.jsonl"
        with Judge(measure, 24, "test", journal, infinite=True) as judge:
            best, proposals = improve(given, value(given), [even(given)], judge, generator)
        assert math.isfinite(judge.measured[best])
        assert [p.to_json(given.dials)["measured"] is None for p in proposals] == lost[:24]
        assert any(lost)


def test_where_nothing_has_a_function_that_is_said():
    given, generator = problem(), torch.Generator().manual_seed(0)
    with (
        Judge(lambda _: math.inf, 5, "test", infinite=True) as judge,
        pytest.raises(ValueError, match="in all 5 prunings that were judged"),
    ):
        improve(given, value(given), [even(given)], judge, generator)


def test_infinite_losses_are_refused_where_nothing_is_said():
    given, generator = problem(), torch.Generator().manual_seed(0)
    with (
        Judge(lambda _: math.inf, 5, "test") as judge,
        pytest.raises(ValueError, match="not finite at evaluation 1"),
    ):
        improve(given, value(given), [even(given)], judge, generator)
