"""What is left alone is told by reason, with its place."""

from __future__ import annotations

import re

import torch
from torch import nn

import metaprune


def test_what_is_left_alone_is_grouped_by_reason_with_its_place():
    class Running(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.special.bessel_j1(self.a(x))
            return self.c(torch.special.bessel_j1(self.b(y)))

    found = metaprune.inspect(Running(), (torch.randn(2, 4),))
    (ours,) = [one for one in found.left_alone if one.reason == "no rule for the operator"]
    assert ours.operator == "aten.special_bessel_j1.default"
    assert ours.axes == ("a.out", "b.out")
    assert len(ours.places) == 2
    assert all(re.fullmatch(r".*test_left_alone\.py:\d+", place) for place in ours.places)
    assert "graphs/rules" in ours.remedy
    assert "special_bessel_j1" in str(found)
    assert sum(len(one.axes) for one in found.left_alone) == sum(
        bool(n["frozen"]) for n in found.graph["nodes"] if n["kind"] == "axis"
    )
