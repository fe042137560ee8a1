from __future__ import annotations

import torch
from torch import nn

from graphs import trace
from pruners import Plan
from pruners.recovery.base import Pruning
from pruners.recovery.solve_alone import solve_alone
from pruners.recovery.solve_in_order import Ask
from pruners.solvers import MaskPattern, solve
from pruners.statistics import input_statistics


class Einsum(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4))

    def forward(self, x):
        return torch.einsum("bit,oi->bot", x, self.weight)


def test_weights_whose_inputs_cannot_be_measured_are_pruned_by_magnitude():
    """What an einsum multiplies is not followed."""
    torch.manual_seed(0)
    layers = [nn.Conv1d(3, 4, 3), nn.ReLU(), Einsum()]
    model = nn.Sequential(*layers).double().eval()
    x = torch.randn(20, 3, 9, dtype=torch.float64)
    net = trace(model, (x,))
    plan = Plan("unstructured", "admm", "uniform")
    asks = {f"{i}.weight": Ask(0.5, MaskPattern.parse("unstructured")) for i in (0, 2)}
    pruning = Pruning(plan, net, net, model, (x,), [x], asks=asks)
    solve_alone(pruning, fitted=True)
    assert pruning.notes == ["Weights pruned by magnitude: 1 (its inputs were not measured)."]
    given = input_statistics(model, [x], ["0.weight"])["0.weight"]
    admm = solve("admm", model[0].weight, 0.5, statistics=given)
    magnitude = solve("magnitude", model[2].weight, 0.5)
    assert torch.equal(pruning.values["0.weight"], admm.weight)
    assert torch.equal(pruning.values["2.weight"], magnitude.weight)
