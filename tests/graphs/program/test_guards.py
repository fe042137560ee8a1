"""A program that was recorded for some sizes of inputs refuses any other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.build.rebuild import graph_model
from graphs.program.guards import put_guards, put_traced_sizes


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


@pytest.mark.parametrize(("shape", "dim"), [((3, 5, 4), 0), ((2, 6, 4), 1), ((2, 5, 5), 2)])
def test_another_size_is_refused(shape: tuple[int, ...], dim: int) -> None:
    net = trace(Recurrent(), (torch.randn(2, 5, 4),))
    module = graph_model(net)
    put_traced_sizes(module.graph)
    module.recompile()
    assert module(torch.randn(2, 5, 4)).shape == (2, 3)
    with pytest.raises(AssertionError, match=f"dimension {dim} of x must be"):
        module(torch.randn(shape))


def test_guards_that_are_no_arithmetic_become_the_traced_sizes() -> None:
    def guards(x: torch.Tensor) -> None:
        torch._assert(max(x.size()[0], 2) == 2, "Guard failed")

    module = graph_model(trace(Recurrent(), (torch.randn(2, 5, 4),)))
    put_guards(module.graph, guards)
    module.recompile()
    with pytest.raises(AssertionError, match="dimension 0 of x must be 2"):
        module(torch.randn(1, 5, 4))
    assert module(torch.randn(2, 5, 4)).shape == (2, 3)
