"""Several shots, and what is not said: it is tried, and the best on examples left out is taken."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from graphs.cost import count_macs
from pruners import budgets, units
from pruners.budgets.rules import expected_loss as rule
from pruners.budgets.rules.expected_loss import cheapest
from pruners.curves import ExpectedLoss
from tests.pruners.budgets.rules.expected_loss.asks import assert_same, sizes, tight, widths
from tests.pruners.conftest import make
from tests.pruners.curves.test_axes import subject


@pytest.mark.parametrize("shots", [1, 3])
@pytest.mark.parametrize(
    ("round_to", "min_units"), [(2, 0.05), (1, 4), (4, 0.5), (1, {"stem.out": 7})]
)
def test_steps_and_floors_hold_however_many_shots(round_to, min_units, shots):
    """Shares are of the dense width, whatever is left of it on the way."""
    _, net, x = subject("cnn")
    kept, _ = widths(
        net, [x], {"macs": "60%"}, order="loss", shots=shots, round_to=round_to,
        min_units=min_units,
    )  # fmt: skip
    for axis, n in sizes(kept).items():
        size = net.axes[axis].size
        assert n % round_to == 0 or n == size
        least = min_units.get(axis, 1) if isinstance(min_units, dict) else min_units
        assert n >= (least * size if isinstance(least, float) else least)
    tight(net, kept, {"macs": "60%"}, round_to)


def test_what_is_tried_does_not_change_with_the_size_of_batches():
    """Fewer than four are cut: a quarter of the examples judges."""
    case = make("cnn")
    x = torch.randn(32, 3, 6, 6, dtype=torch.float64)
    one, two = (widths(case.net, list(x.split(n)), {"macs": "55%"})[0] for n in (32, 16))
    assert_same(one, two)


@pytest.mark.parametrize("shots", [2, 4])
def test_every_shot_keeps_a_part_of_what_the_last_one_kept(shots, monkeypatch):
    """Curves are taken anew at the smaller network, its units counted in those of the dense one."""
    _, net, x = subject("cnn")
    seen = []
    monkeypatch.setattr(
        rule,
        "cheapest",
        lambda now, curves: seen.append((now, cheapest(now, curves))) or seen[-1][1],
    )
    kept, _ = widths(net, [x], {"macs": "40%"}, order="loss", shots=shots)
    assert len(seen) == shots
    reached = {axis: torch.arange(net.axes[axis].size) for axis in kept}
    macs = [count_macs(net)]
    for now, chosen in seen:
        assert {axis: now.net.axes[axis].size for axis in reached} == sizes(reached)
        macs.append(count_macs(now.net, sizes(chosen)))
        reached = {axis: index[chosen[axis]] for axis, index in reached.items()}
    assert_same(reached, kept)
    dense = macs[0]
    for step, found in enumerate(macs[1:], start=1):
        assert found <= dense * 0.4 ** (step / shots) + 1e-6
    assert all(a >= b for a, b in pairwise(macs))


def test_what_is_not_said_is_tried_and_the_best_is_taken(monkeypatch):
    """On examples left out; with everything given, or one way alone, nothing is tried."""
    _, net, x = subject("mlp")
    judged, ways = [], []
    shots_of = rule.in_shots
    monkeypatch.setattr(
        rule, "in_shots", lambda request, expected, *way: ways.append((len(expected.batches), way))
        or shots_of(request, expected, *way),
    )  # fmt: skip

    class Judge:
        predictions = 7

        def __init__(self, losses):
            self.losses = iter(losses)

        def __call__(self, model):
            judged.append(sum(p.numel() for p in model.parameters()))
            return next(self.losses)

    def run(losses, **options):
        ways.clear(), judged.clear()
        divided = ExpectedLoss.divided
        with monkeypatch.context() as patch:
            patch.setattr(ExpectedLoss, "divided", lambda self: (divided(self)[0], Judge(losses)))
            kept, expected = widths(net, list(x.split(3)), {"macs": "50%"}, **options)
        return kept, expected, [way for _, way in ways]

    # Losses of: order loss, order given, 2 shots of the better, 4 shots of it, one L2 threshold.
    _, expected, tried = run([3.0, 2.0, 4.0, 1.0, 9.0])
    assert tried == [("loss", 1), ("given", 1), ("given", 2), ("given", 4), ("given", 4)]
    assert [n for n, _ in ways] == [8, 8, 8, 8, 10]  # measured on three quarters, then on all
    assert expected.prediction is not None
    _, _, tried = run([1.0, 2.0, 4.0, 3.0, 9.0])
    assert tried[-1] == ("loss", 1)
    kept, expected, tried = run([3.0, 2.0, 4.0, 1.0, 0.5])
    assert len(tried) == 4
    assert expected.prediction is None
    assert_same(
        kept, budgets.allocate_widths("global", net, units.base_scores(net), {"macs": "50%"})
    )
    assert run([3.0, 2.0], shots=2)[2] == [("loss", 2), ("given", 2), ("given", 2)]
    assert run([1.0, 2.0, 3.0], order="mixed")[2] == [
        ("mixed", 1), ("mixed", 2), ("mixed", 4), ("mixed", 1),
    ]  # fmt: skip
    assert run([], order="given", shots=4)[2] == [("given", 4)]
    assert judged == []


@pytest.mark.parametrize("options", [{}, {"order": "given"}, {"shots": 2}])
def test_with_few_examples_the_first_way_is_taken(monkeypatch, options):
    """Six judge here; one more than that is asked for."""
    _, net, x = subject("mlp")
    assert ExpectedLoss(net, [x]).divided()[1].predictions == 6
    monkeypatch.setattr(rule, "FEWEST", 7)
    monkeypatch.setattr(ExpectedLoss, "after", None)
    first = {"order": "loss", "shots": 1} | options
    if first["shots"] == 1:
        assert_same(*(widths(net, [x], {"macs": "50%"}, **o)[0] for o in (options, first)))
    monkeypatch.setattr(rule, "FEWEST", 6)
    with pytest.raises(TypeError):
        widths(net, [x], {"macs": "50%"}, **options)


@pytest.mark.parametrize("shots", [2, 5])
def test_what_is_expected_is_of_all_that_goes_however_many_shots(shots):
    _, net, x = subject("cnn")
    _, first = widths(net, [x], {"macs": "50%"}, order="loss", shots=1)
    kept, expected = widths(net, [x], {"macs": "50%"}, order="loss", shots=shots)
    assert expected.prediction.curves == first.prediction.curves
    assert expected.prediction.kept == {axis: len(index) for axis, index in kept.items()}


def test_large_networks_are_not_tried(monkeypatch):
    _, net, x = subject("cnn")
    monkeypatch.setattr(rule, "SMALL", 10)
    monkeypatch.setattr(ExpectedLoss, "divided", None)
    one, _ = widths(net, [x], {"macs": "50%"})
    two, _ = widths(net, [x], {"macs": "50%"}, order="loss", shots=1)
    assert_same(one, two)
