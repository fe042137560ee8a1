"""A program that was recorded for one number of examples refuses any other."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.build.rebuild import graph_model
from graphs.program.module import insist_on_batch


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def test_another_number_of_examples_is_refused() -> None:
    net = trace(Recurrent(), (torch.randn(2, 5, 4),))
    module = insist_on_batch(graph_model(net))
    assert module(torch.randn(2, 5, 4)).shape == (2, 3)
    with pytest.raises(AssertionError, match="x must have 2 examples"):
        module(torch.randn(3, 5, 4))
