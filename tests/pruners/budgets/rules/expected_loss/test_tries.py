"""Several shots, and what is not said: it is tried, and the best on examples left out is taken."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.cost import count_macs
from pruners import budgets, units
from pruners.budgets.rules.expected_loss import shots as stepping
from pruners.budgets.rules.expected_loss import widths as rule
from pruners.budgets.rules.expected_loss.shots import assumed, cheapest
from pruners.curves import ExpectedLoss
from pruners.curves import expected as measuring
from tests.pruners.budgets.rules.expected_loss.asks import assert_same, sizes, tight, widths
from tests.pruners.conftest import make
from tests.pruners.curves.test_axes import subject
from tests.pruners.networks import randomized


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
        stepping,
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
    _, net, x = subject("cnn")
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

        def each(self, model):
            judged.append(sum(p.numel() for p in model.parameters()))
            return torch.tensor([next(self.losses)]), torch.ones(1)

    def run(losses, **options):
        ways.clear(), judged.clear()
        divided = ExpectedLoss.divided
        with monkeypatch.context() as patch:
            patch.setattr(ExpectedLoss, "divided", lambda self: (divided(self)[0], Judge(losses)))
            kept, expected = widths(net, list(x.split(3)), {"macs": "30%"}, **options)
        return kept, expected, [way for _, way in ways]

    # Losses of: order loss, order given, 2 shots of the better, 4 shots of it, one L2 threshold.
    _, expected, tried = run([2.0, 3.0, 4.0, 1.0, 9.0])
    assert tried == [("loss", 1), ("given", 1), ("loss", 2), ("loss", 4), ("loss", 4)]
    assert [n for n, _ in ways] == [8, 8, 8, 8, 10]  # measured on three quarters, then on all
    assert expected.prediction is not None
    _, _, tried = run([1.0, 2.0, 4.0, 3.0, 9.0])
    assert tried[-1] == ("loss", 1)
    kept, expected, tried = run([2.0, 3.0, 4.0, 1.0, 0.5])
    assert len(tried) == 4
    assert expected.prediction is None
    assert_same(
        kept, budgets.allocate_widths("global", net, units.base_scores(net), {"macs": "30%"})
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
    monkeypatch.setattr(measuring, "FEWEST", 7)
    monkeypatch.setattr(ExpectedLoss, "after", None)
    first = {"order": "loss", "shots": 1} | options
    if first["shots"] == 1:
        assert_same(*(widths(net, [x], {"macs": "50%"}, **o)[0] for o in (options, first)))
    monkeypatch.setattr(measuring, "FEWEST", 6)
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


def test_no_evaluations_take_the_first_way():
    _, net, x = subject("cnn")
    kept, expected = widths(net, list(x.split(3)), {"macs": "50%"}, evaluations=0)
    first, _ = widths(net, list(x.split(3)), {"macs": "50%"}, order="loss", shots=1)
    assert_same(kept, first)
    assert expected.tried == {}


@pytest.mark.parametrize("evaluations", [1, 3, 8])
def test_as_many_prunings_are_judged_as_are_asked(evaluations, monkeypatch):
    """Ways first, then what a surrogate proposes; the target is met by all of them."""
    _, net, x = subject("cnn")
    judged = []
    after = ExpectedLoss.after

    def counted(self, kept):
        if len(self.batches) < 10:  # of three quarters
            judged.append(sizes(kept))
        return after(self, kept)

    monkeypatch.setattr(ExpectedLoss, "after", counted)
    kept, expected = widths(
        net, list(x.split(3)), {"macs": "50%"}, order="loss", shots=1, evaluations=evaluations
    )
    tight(net, kept, {"macs": "50%"})
    assert len(judged) <= evaluations
    assert len(judged) > evaluations // 2
    assert "order loss, shots 1" in expected.tried
    for one in expected.candidates:
        found = {axis: torch.arange(n) for axis, n in one["kept"].items()}
        tight(net, found, {"macs": "50%"})
        assert one["measured"] > 0
    if expected.candidates:
        found = expected.tried["the best of a surrogate"]
        assert any(found == pytest.approx(one["measured"], rel=1e-5) for one in expected.candidates)


def test_interrupted_evaluations_continue(tmp_path, monkeypatch):
    """The second run finds in the journal what the first one measured, and ends alike."""
    _, net, x = subject("mlp")
    given = {"order": "loss", "shots": 1, "evaluations": 6}
    whole, expected = widths(net, list(x.split(3)), {"macs": "50%"}, **given)
    journal = tmp_path / "journal.jsonl"
    after, calls = ExpectedLoss.after, []

    def interrupted(self, kept):
        calls.append(kept)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return after(self, kept)

    with monkeypatch.context() as patch:
        patch.setattr(ExpectedLoss, "after", interrupted)
        with pytest.raises(KeyboardInterrupt):
            widths(net, list(x.split(3)), {"macs": "50%"}, journal=journal, **given)
    assert len(journal.read_text().splitlines()) > 1
    again, second = widths(net, list(x.split(3)), {"macs": "50%"}, journal=journal, **given)
    assert_same(again, whole)
    assert second.candidates == expected.candidates
    more = {**given, "evaluations": 9}
    longer, third = widths(net, list(x.split(3)), {"macs": "50%"}, journal=journal, **more)
    assert third.candidates[:6] == expected.candidates
    assert_same(longer, widths(net, list(x.split(3)), {"macs": "50%"}, **more)[0])


def test_evaluations_need_something_to_judge_by():
    _, net, x = subject("mlp")
    with pytest.raises(ValueError, match="evaluations takes a whole number"):
        widths(net, [x], {"macs": "50%"}, evaluations=-1)
    with pytest.raises(ValueError, match="evaluations takes a whole number"):
        widths(net, [x], {"macs": "50%"}, evaluations=2.5)


class HalfMeasured(nn.Module):
    """Its first axis is read by what nothing measures."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.empty(shape)) for shape in ((16, 8), (12, 16)))
        self.c = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for weight in (self.a, self.b):
            x = torch.relu(torch.einsum("oi,bi->bo", weight, x))
        return self.c(x)


def test_an_axis_that_nothing_measures_is_no_bargain_for_a_surrogate():
    torch.manual_seed(0)
    net = trace(randomized(HalfMeasured().double()), (torch.randn(3, 8, dtype=torch.float64),))
    x = torch.randn(512, 8, dtype=torch.float64)
    _, expected = widths(net, list(x.split(64)), {"macs": "50%"}, evaluations=12)
    assert set(expected.prediction.curves) == {"b.out"}
    foretold = [one for one in expected.candidates if "predicted" in one]
    assert len(foretold) > 3
    for one in foretold:
        assert 0.1 < one["predicted"] / one["measured"] < 10


def test_the_curve_of_an_axis_that_nothing_measures_adds_up():
    worth = torch.tensor([4.0, 2.0, 1.0, 0.5]).double()
    assert assumed(worth).losses == (3.5, 1.5, 0.5, 0.0)
    assert assumed(worth).kept == (1, 2, 3, 4)
