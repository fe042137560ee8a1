"""A configuration says what all modules agree on, and where they do not."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from graphs import trace
from graphs.build.attributes import evidence
from graphs.build.configs import configs


def test_a_configuration_says_what_all_modules_agree_on():
    class Part(nn.Module):
        def __init__(self, config: SimpleNamespace) -> None:
            super().__init__()
            self.config = config
            self.up, self.down = nn.Linear(6, 10), nn.Linear(10, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.down(self.up(x).relu())

    config = SimpleNamespace(hidden_size=6, intermediate_size=10, num_layers=10, name="part")
    model = nn.Sequential(nn.Linear(4, 6), Part(config), Part(config), nn.Linear(6, 3)).eval()
    net = trace(model, (torch.randn(2, 4),))
    (same,) = configs(model, evidence(net.remove({"1.up.out": [0], "2.up.out": [3], "0.out": [1]})))
    assert set(same.repairs) == {
        ("1.config", "hidden_size", 6, 5),
        ("1.config", "intermediate_size", 10, 9),
    }
    (other,) = configs(model, evidence(net.remove({"1.up.out": [0], "2.up.out": [3, 4]})))
    assert other.varied == {"intermediate_size": {"1": 9, "2": 8}}
    assert [(p, values) for p, _, values in other.copies()] == [
        ("1", {"intermediate_size": 9}),
        ("2", {"intermediate_size": 8}),
    ]
