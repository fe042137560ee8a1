"""Widths by expected loss: targets are met and tight, and nothing that does not matter matters."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.cost import count_macs
from pruners import Target, UnreachableTargetError, budgets, units
from pruners.budgets.problems.request import Request
from pruners.budgets.rules.expected_loss.shots import cheapest
from pruners.curves import AxisCurve, Curve, ExpectedLoss, Prediction
from tests.pruners.budgets.rules.expected_loss.asks import (
    NAMES,
    TARGETS,
    WAYS,
    assert_same,
    deaf,
    drawn,
    of_labels,
    sizes,
    tight,
    widths,
)
from tests.pruners.conftest import make
from tests.pruners.curves.test_axes import relabelled, rescaled, subject
from tests.pruners.curves.test_expected import SPLITS
from tests.pruners.networks import mlp, randomized


@pytest.mark.parametrize(
    ("name", "target", "way"),
    [
        *((name, target, WAYS[0]) for name in NAMES for target in TARGETS),
        *((name, TARGETS[2], way) for name in ("mlp", "cnn") for way in WAYS[1:]),
        ("heads", TARGETS[0], WAYS[1]),
        ("attention", TARGETS[3], WAYS[1]),
    ],
    ids=str,
)
def test_the_target_is_met_and_just_so(name, target, way):
    _, net, x = subject(name)
    kept, expected = widths(net, [x], target, **way)
    tight(net, kept, target)
    for axis, index in kept.items():
        assert index.tolist() == sorted(set(index.tolist()))
        assert 0 <= index.min() <= index.max() < net.axes[axis].size
    if expected.prediction is not None:
        assert expected.prediction.total > 0
        assert set(expected.prediction.curves) <= set(kept)


def test_what_is_out_of_reach_is_refused_before_any_work(monkeypatch):
    _, net, x = subject("cnn")
    monkeypatch.setattr(ExpectedLoss, "sides", None)
    for way in WAYS:
        with pytest.raises(UnreachableTargetError, match="out of reach"):
            widths(net, [x], {"macs": "1%"}, min_units=0.9, **way)


@pytest.mark.parametrize("name", NAMES)
def test_a_target_that_is_met_already_takes_nothing(name):
    _, net, x = subject(name)
    for shots in (1, 2):
        kept, _ = widths(net, [x], {"macs": "100%"}, order="loss", shots=shots)
        assert all(n == net.axes[axis].size for axis, n in sizes(kept).items())


@pytest.mark.parametrize(
    ("name", "way"), [("heads", WAYS[1]), ("cnn", WAYS[2]), ("mlp", WAYS[3])], ids=str
)
def test_the_same_input_gives_the_same_widths(name, way):
    _, net, x = subject(name)
    one, two = (widths(net, [x], {"params": "60%"}, **way)[0] for _ in range(2))
    assert_same(one, two)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("way", WAYS[:2], ids=str)
def test_widths_do_not_change_with_batches_and_their_order(split, way):
    case = make("cnn")
    x = torch.randn(24, 3, 6, 6, dtype=torch.float64)
    one, _ = widths(case.net, [x], {"macs": "55%"}, **way)
    two, _ = widths(case.net, SPLITS[split](x), {"macs": "55%"}, **way)
    assert_same(one, two)


@pytest.mark.parametrize("factor", [1e-3, 64.0])
def test_widths_do_not_change_with_the_scale_and_reduction_of_a_loss(factor):
    case = make("cnn")
    batches = list(torch.randn(24, 3, 6, 6, dtype=torch.float64).split(8))

    for way in WAYS[:2]:
        one, two, three = (
            widths(case.net, batches, {"macs": "55%"}, of_labels(*how), **way)[0]
            for how in (("mean", 1.0), ("sum", 1.0), ("mean", factor))
        )
        assert_same(one, two)
        assert_same(one, three)


@pytest.mark.parametrize(
    ("name", "way"),
    [("padded", WAYS[0]), ("heads", WAYS[0]), ("cnn", WAYS[0]), ("cnn", WAYS[2]), ("mlp", WAYS[1])],
    ids=str,
)
def test_widths_do_not_change_with_the_labels_of_units(name, way):
    _, net, other, orders, x = relabelled(name)
    one, _ = widths(net, [x], {"params": "60%"}, **way)
    two, _ = widths(other, [x], {"params": "60%"}, **way)
    for axis, index in one.items():
        assert torch.equal(orders[axis][two[axis]].sort().values, index)


@pytest.mark.parametrize("factor", [1e-3, 0.3, 50.0])
@pytest.mark.parametrize("shots", [1, 2])
def test_widths_do_not_change_where_units_are_rescaled(factor, shots):
    """What a rectified unit gives is scaled, and what reads it scales back."""
    net, other, x = rescaled(factor)
    scores = units.base_scores(net)
    one, two = (
        widths(n, [x], {"params": "60%"}, scores=scores, order="loss", shots=shots)[0]
        for n in (net, other)
    )
    assert_same(one, two)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("name", ["mlp", "cnn", "concatenated"])
def test_no_widths_at_all_are_expected_to_lose_much_less(name, share):
    """Against every choice that meets the target; hulls and whole units leave a little."""
    _, net, x = subject(name)
    scores, curves = drawn(net, x)
    target = Target.parse({"macs": f"{100 * share}%"})
    kept = cheapest(Request(net, scores, target, 1), curves)
    listed = {axis: found.curve for axis, found in curves.items()}
    assert set(listed) == set(scores)
    limit = share * count_macs(net)
    best = min(
        Prediction(listed, choice).total
        for choice in (
            dict(zip(scores, found, strict=True))
            for found in product(*(range(1, net.axes[axis].size + 1) for axis in scores))
        )
        if count_macs(net, choice) <= limit
    )
    assert Prediction(listed, sizes(kept)).total <= 1.3 * best + 1e-12


def test_one_price_cuts_all_axes_by_hand():
    """Three units of a lose little; those of b cost as many parameters and lose much."""
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    net = trace(model, (torch.randn(3, 2),))
    a = AxisCurve(Curve((1, 2, 3, 4), (0.3, 0.2, 0.1, 0.0)), torch.tensor([3, 1, 0, 2]))
    b = AxisCurve(Curve((1, 2, 3, 4), (30.0, 20.0, 10.0, 0.0)), torch.tensor([0, 1, 2, 3]))
    curves = {"0.out": a, "2.out": b}
    scores = {axis: torch.ones(4) for axis in curves}
    request = Request(net, scores, Target.parse({"units": 6}), 1)
    kept = cheapest(request, curves)
    assert kept["0.out"].tolist() == [1, 3]
    assert kept["2.out"].tolist() == [0, 1, 2, 3]
    # An axis without a curve counts as an average one, its units by their scores.
    given = {"0.out": torch.tensor([1.0, 9.0, 1.0, 9.0]), "2.out": scores["2.out"]}
    part = cheapest(Request(net, given, Target.parse({"units": 6}), 1), {"2.out": b})
    assert part["0.out"].tolist() == [1, 3]


def test_units_that_nobody_hears_go_first():
    """Their readers have gradients of zero."""
    model = randomized(mlp().double())
    with torch.no_grad():
        model[4].weight[:, 2:5] = 0
    x = torch.randn(40, 6, dtype=torch.float64)
    net = trace(model, (x[:3],))
    kept, _ = widths(net, [x], {"units": 14}, order="loss", shots=1)
    assert not set(kept["2.out"].tolist()) & {2, 3, 4}
    assert len(kept["0.out"]) == 10


@pytest.mark.parametrize("how", ["scores", "labels"])
def test_widths_are_divided_where_gradients_are_blocked(how):
    """By the outputs of their layers; where there are no scores, nothing can be tried either."""
    net, x = deaf(how)
    kept, expected = widths(net, [x], {"macs": "50%"})
    tight(net, kept, {"macs": "50%"})
    assert list(expected.unreached) == ["a.weight", "b.weight", "c.weight"]
    if how == "labels":
        assert_same(kept, widths(net, [x], {"macs": "50%"}, order="loss", shots=1)[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"order": "x"}, 'unknown order "x": expected one of loss, given, mixed'),
        ({"order": "los"}, 'did you mean "loss"'),
        ({"shots": 0}, r"shots takes a whole number from 1 to 16 \(got 0\)"),
        ({"shots": 100}, r"shots takes a whole number from 1 to 16 \(got 100\)"),
        ({"shots": 1.5}, r"shots takes a whole number from 1 to 16 \(got 1.5\)"),
        ({"shots": "2"}, r"shots takes a whole number from 1 to 16 \(got '2'\)"),
        ({"shots": True}, r"shots takes a whole number from 1 to 16 \(got True\)"),
        ({"shot": 2}, 'does not read "shot"; did you mean "shots"'),
        ({"shots": 2, "cut": lambda *a: {}}, r"tied together .* in one shot \(got shots=2\)"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused_before_any_work(options, words, monkeypatch):
    _, net, x = subject("mlp")
    monkeypatch.setattr(ExpectedLoss, "sides", None)
    with pytest.raises(ValueError, match=words):
        widths(net, [x], {"macs": "50%"}, **options)


def test_without_calibration_it_is_refused():
    _, net, _ = subject("mlp")
    with pytest.raises(ValueError, match="needs expected losses, measured on calibration"):
        budgets.allocate_widths("expected-loss", net, units.base_scores(net), {"macs": "50%"})
    assert budgets.measured("expected-loss", net, [], divides="widths") == {}
    found = budgets.measured("expected-loss", net, [torch.randn(3, 6).double()], divides="widths")
    assert isinstance(found["expected"], ExpectedLoss)
