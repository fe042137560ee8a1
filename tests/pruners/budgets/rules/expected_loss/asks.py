"""Budgets by expected loss as the tests ask for them, and networks that they ask about."""

from __future__ import annotations

import torch
from torch import nn

from graphs import trace
from pruners import Target, budgets, units
from pruners.curves import ExpectedLoss, axis_curves
from pruners.statistics import Likelihood
from tests.pruners.curves.test_sides import Blocked
from tests.pruners.networks import randomized

NAMES = ["attention", "cnn", "heads", "mlp", "padded"]
TARGETS = [{"macs": "60%"}, {"params": "50%"}, {"macs": "70%", "params": "60%"}, {"units": "55%"}]
WAYS = [
    {"order": "loss", "shots": 1},
    {"order": "given", "shots": 2},
    {"order": "mixed", "shots": 4},
    {},
]


def masks(net, batches, density=0.5, likelihood=None, **options):
    weights = budgets.prunable_weights(net)
    expected = ExpectedLoss(net, batches, weights, likelihood)
    shares = budgets.allocate_masks(
        "expected-loss", net, density, weights=weights, expected=expected, **options
    )
    return shares, expected


def widths(net, batches, target, likelihood=None, scores=None, **options):
    expected = ExpectedLoss(net, batches, likelihood=likelihood)
    scores = units.base_scores(net) if scores is None else scores
    kept = budgets.allocate_widths(
        "expected-loss", net, scores, target, expected=expected, **options
    )
    return kept, expected


def sizes(kept):
    return {axis: len(index) for axis, index in kept.items()}


def assert_same(one, two):
    assert set(one) == set(two)
    assert all(torch.equal(index, two[axis]) for axis, index in one.items())


def whole(net, shares):
    """Kept numbers of every weight."""
    return {name: round(share * net.tensors[name].value.numel()) for name, share in shares.items()}


def tight(net, kept, target, round_to=1):
    """Within all limits; and with one more chunk of some axis it would not be."""
    limits = Target.parse(target).limits(net)
    full = {name: axis.size for name, axis in net.axes.items()}

    def met(found):
        return all(count(net, full | found) <= limit for count, limit in limits.items())

    chosen = sizes(kept)
    assert met(chosen)
    more = [
        {**chosen, axis: min(n + round_to, full[axis])}
        for axis, n in chosen.items()
        if n < full[axis]
    ]
    assert any(not met(found) for found in more)


def drawn(net, x, order="loss"):
    expected = ExpectedLoss(net, [x])
    scores = units.base_scores(net)
    return scores, axis_curves(net, expected.sides, scores, scores, order)


def ranks(net, x, target, expected=None):
    weights = budgets.prunable_weights(net)
    expected = ExpectedLoss(net, [x], weights) if expected is None else expected
    statistics = {
        name: {"hessian": one.hessian.mean(0), "curvature": one.curvature[0]}
        for name, one in expected.sides.items()
        if len(one.weight) == 1
    }
    found = budgets.allocate_ranks(
        "expected-loss", net, weights, target, statistics=statistics, expected=expected
    )
    return found, expected


class Deaf(Blocked):
    """No gradient of its scores reaches its weights.

    Args:
        how: whether it gives "scores", or "labels", which are none.
    """

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        with torch.no_grad():
            found = super().forward(x)
        return found.argmax(-1) if self.how == "labels" else found


def deaf(how):
    """A network whose gradients are blocked, and inputs."""
    model = randomized(Deaf(how).double())
    x = torch.randn(40, 6, dtype=torch.float64)
    return trace(model, (x[:3],)), x


def of_labels(reduction, scale):
    """The cross-entropy of five classes, times a number, with labels that say nothing."""

    def loss(model, batch):
        target = torch.arange(len(batch)) % 5
        return scale * nn.functional.cross_entropy(model(batch), target, reduction=reduction)

    return Likelihood(loss_fn=loss)
