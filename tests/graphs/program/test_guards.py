"""A program that was recorded for some sizes of inputs refuses any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx, nn

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


def guarded(condition: Callable[[int, int], Any]) -> fx.GraphModule:
    module = graph_model(trace(Recurrent(), (torch.randn(2, 5, 4),)))
    put_guards(
        module.graph, lambda x: torch._assert(condition(x.size()[0], x.size()[1]), "Guard failed")
    )
    module.recompile()
    return module


@pytest.mark.parametrize(
    ("condition", "good", "bad"),
    [
        (lambda n, t: 2 <= t <= 8, (2, 5, 8), (1, 9)),
        (lambda n, t: t // 2 == 2, (4, 5), (3, 6)),
        (lambda n, t: n == 2 and t > 3 and t != 7, (4, 6, 9), (3, 7)),
        (lambda n, t: max(3, t) == t, (4, 6), (2,)),
    ],
    ids=["chain", "arithmetic", "several", "larger"],
)
def test_guards_refuse_what_is_not_proved(condition: Any, good: Any, bad: Any) -> None:
    module = guarded(condition)
    for size in good:
        assert module(torch.randn(2, size, 4)).shape == (2, 3)
    for size in bad:
        with pytest.raises(AssertionError, match="Guard failed"):
            module(torch.randn(2, size, 4))


@pytest.mark.parametrize("condition", [lambda n, t: t > 8 or n == 2, lambda n, t: not t > 8])
def test_guards_that_cannot_be_told_become_the_traced_sizes(condition: Any) -> None:
    module = guarded(condition)
    with pytest.raises(AssertionError, match="dimension 1 of x must be 5"):
        module(torch.randn(2, 4, 4))
    assert module(torch.randn(2, 5, 4)).shape == (2, 3)
