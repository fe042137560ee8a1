"""Ranks by expected loss: they go to the weights that the predictions need."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.cost import count_params
from pruners import budgets
from pruners.curves import ExpectedLoss
from tests.pruners.budgets.rules.expected_loss.asks import deaf, ranks
from tests.pruners.curves.test_axes import rescaled, subject
from tests.pruners.networks import randomized


@pytest.mark.parametrize("factor", [1e-3, 0.3, 50.0])
def test_ranks_do_not_change_where_units_are_rescaled(factor):
    net, other, x = rescaled(factor)
    assert ranks(net, x, {"params": "75%"})[0] == ranks(other, x, {"params": "75%"})[0]


def test_ranks_meet_the_target_and_their_loss_is_foretold():
    _, net, x = subject("cnn")
    found, expected = ranks(net, x, {"params": "60%"})
    stored = count_params(net)
    for name, rank in found.items():
        rows, *rest = net.tensors[name].value.shape
        columns = net.tensors[name].value[0].numel()
        stored += rank * (rows + columns) - rows * columns
        assert rest
        assert 1 <= rank < rows * columns / (rows + columns)
    assert 0.5 * count_params(net) < stored <= 0.6 * count_params(net)
    prediction = expected.prediction
    assert set(found) <= set(prediction.curves)
    for name, curve in prediction.curves.items():
        assert curve.losses[-1] == 0
        assert curve.losses[0] <= expected.sides[name].energy
        if name not in found:
            assert prediction.losses[name] == 0
    assert prediction.total > 0


def test_ranks_go_to_the_weights_that_the_predictions_need():
    """Two equal layers, of which the output hears one hardly at all."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(16, 4)

        def forward(self, x):
            return self.out(torch.cat([self.a(x).relu(), self.b(x).relu()], 1))

    model = randomized(Two().double())
    with torch.no_grad():
        model.b.weight.copy_(model.a.weight)
        model.b.bias.copy_(model.a.bias)
        model.out.weight[:, 8:] = 0.01 * model.out.weight[:, :8]
    x = torch.randn(80, 8, dtype=torch.float64)
    net = trace(model, (x[:3],))
    found, expected = ranks(net, x, {"params": "85%"})
    assert found.get("b.weight", 9) < found.get("a.weight", 9)
    energies = {name: one.energy for name, one in expected.sides.items()}
    assert energies["b.weight"] < 1e-3 * energies["a.weight"]


def test_weights_without_both_sides_count_as_average_ones_among_ranks():
    _, net, x = subject("cnn")
    expected = ExpectedLoss(net, [x], ["conv1.weight", "fc.weight"])
    found, _ = ranks(net, x, {"params": "60%"}, expected)
    assert set(found) & {"conv2.weight", "stem.weight"}
    nothing = ExpectedLoss(net, [x], ["conv1.weight"])
    nothing.sides.clear()
    assert ranks(net, x, {"params": "60%"}, nothing)[0]


@pytest.mark.parametrize("how", ["scores", "labels"])
def test_ranks_are_divided_where_gradients_are_blocked(how):
    net, x = deaf(how)
    assert budgets.allocate_ranks(
        "expected-loss", net, budgets.prunable_weights(net), {"params": "85%"},
        expected=ExpectedLoss(net, [x]),
    )  # fmt: skip
