"""Values that learn: facts that no symmetry changes, the sum at first, budgets in order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from metanet import ValueNetwork
from pruners import Target
from pruners.budgets.problems.request import Request
from pruners.budgets.rules.expected_loss.trials import foreseeing
from pruners.budgets.searching.surrogate import foreseen
from pruners.curves import FACTS, ExpectedLoss, Value, axis_curves, facts_of
from pruners.units import base_scores
from tests.pruners.curves.test_axes import relabelled, subject
from training.triples import TriplesConfig, measure_triples
from training.values import LearnedValue, ValueConfig, fit_value, known_of, left_out_families
from training.values.judge import spearman
from training.zoo import build_zoo

QUICK = ValueConfig(members=2, epochs=3)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    folder = tmp_path_factory.mktemp("values")
    zoo = folder / "zoo"
    build_zoo(
        {
            "folder": str(zoo),
            "members": 2,
            "held_out": 1,
            "families": ("plain", "residual"),
            "fit": {"epochs": 1, "lr": 0.05, "batch_size": 50},
        }
    )
    config = TriplesConfig(
        str(folder / "triples"), [str(zoo)], targets=[{"pattern": "channels", "macs": "60%"}],
        budgets=8, examples=64, judged=64, batch_size=32,
    )  # fmt: skip
    return known_of([zoo], measure_triples(config))


@pytest.mark.parametrize("name", ["cnn", "mlp", "heads"])
def test_facts_do_not_change_with_the_labels_of_units(name):
    _, net, other, _, x = relabelled(name)

    def facts(one):
        sides = ExpectedLoss(one, [x]).sides
        scores = base_scores(one)
        return facts_of(one, sides, axis_curves(one, sides, scores, scores))

    first, second = facts(net), facts(other)
    assert first.axes == second.axes
    assert torch.allclose(first.table, second.table, atol=1e-3)
    assert torch.equal(first.reads, second.reads)


def test_facts_are_in_the_order_of_data_and_of_every_axis_with_a_curve():
    _, net, x = subject("cnn")
    sides, scores = ExpectedLoss(net, [x]).sides, base_scores(net)
    curves = axis_curves(net, sides, scores, scores)
    facts = facts_of(net, sides, curves)
    assert set(facts.axes) == set(curves)
    assert facts.table.shape == (len(curves), len(FACTS))
    assert facts.table.isfinite().all()
    assert not facts.reads.tril().any()
    assert facts.reads.any()
    for axis in facts.axes:
        mean = facts.mean[axis]
        assert len(mean) == net.axes[axis].size
        assert mean[-1] == pytest.approx(0, abs=1e-9)
        assert (mean.diff() <= 1e-6).all()
        assert (facts.largest[axis] >= mean - 1e-9).all()


def test_a_network_is_told_all_facts_by_default():
    assert ValueNetwork().config["facts"] == len(FACTS)


def test_what_learned_nothing_says_the_sum(known):
    for case in known:
        value = case.told(ValueNetwork(facts=len(FACTS), members=2))
        assert isinstance(value, Value)
        choices = case.triples.choices.tolist()
        assert torch.allclose(value.log_damage(choices), case.triples.value().log_damage(choices))
        assert torch.equal(value.losses(choices), case.triples.value().losses(choices))


def test_fitting_is_deterministic_and_puts_known_budgets_in_a_better_order(known):
    config = ValueConfig(members=2, epochs=40, lr=3e-2, weight_decay=0.0)
    one, two = (fit_value(known, config) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    before = after = 0.0
    for case in known:
        choices = case.triples.choices.tolist()
        after += spearman(case.told(one).log_damage(choices), case.triples.damage)
        before += spearman(case.triples.value().log_damage(choices), case.triples.damage)
    assert after > before
    assert after / len(known) > 0.6


def test_members_disagree_and_caution_counts_it(known):
    network = fit_value(known, ValueConfig(members=3, epochs=10, lr=1e-2))
    value = known[0].told(network)
    choices = known[0].triples.choices.tolist()
    members = value.members(choices)
    assert members.std(0).max() > 0
    wanted = members.mean(0) + 0.5 * members.std(0)
    assert torch.allclose(value.log_damage(choices), wanted)


def test_every_family_is_left_out_in_turn(known):
    found = left_out_families(known, QUICK)
    assert len(found) == len(known)
    for one in found:
        assert one.best <= one.picked
        assert -1 <= one.correlation <= 1
    with pytest.raises(ValueError, match="at least two"):
        left_out_families([case for case in known if case.family == "plain"], QUICK)


def test_nothing_to_learn_from_is_refused(known):
    with pytest.raises(ValueError, match="needs triples of channels"):
        fit_value([])
    with pytest.raises(ValueError, match="members must be"):
        ValueConfig(members=0)


def test_triples_of_another_zoo_are_refused(known, tmp_path):
    build_zoo(
        {"folder": str(tmp_path), "members": 1, "held_out": 1, "families": ("mlp",),
         "fit": {"epochs": 1}}
    )  # fmt: skip
    with pytest.raises(ValueError, match="name its zoo"):
        known_of([tmp_path], [known[0].triples])


def test_a_network_that_nothing_damages_teaches_nothing(known):
    one = known[0].triples
    rounding = 1e-9 * torch.randn(len(one.damage), dtype=one.damage.dtype)
    assert known_of([], [replace(one, damage=rounding)]) == []


def test_what_is_foreseen_is_on_the_target_and_expected_to_be_no_worse():
    _, net, x = subject("cnn")
    scores = base_scores(net)
    request = Request(net, scores, Target.parse({"macs": "50%"}), 1)
    expected = ExpectedLoss(net, [x])
    network = ValueNetwork(facts=len(FACTS), members=2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))

    def foresee(expected, curves, dials, sizes, target):
        facts = facts_of(net, expected.sides, curves)
        losses = {axis: one.curve for axis, one in curves.items()}
        return LearnedValue(network, facts, losses, dials, sizes, target.share(net))

    problem, value, _ = foreseeing(request, expected, "loss", foresee)
    begin = problem.realise(torch.zeros(len(problem.dials)))
    found = foreseen(problem, value, [begin], torch.Generator().manual_seed(0))
    assert value.log_damage([found]) <= value.log_damage([begin])
    limits = request.target.limits(net)
    widths = dict(zip(problem.dials, found, strict=True))
    assert all(count(net, widths) <= limit for count, limit in limits.items())
    again = foreseen(problem, value, [begin], torch.Generator().manual_seed(0))
    assert again == found
