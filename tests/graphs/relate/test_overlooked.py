"""A rule that overlooks an axis costs it its freedom, never the network its correctness."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from graphs import trace
from graphs.axes.dims import Atom, Fixed, Prod, Sum
from graphs.relate.overlooked import overlooked
from graphs.rules import RULES


def test_a_rule_that_forgets_a_dimension_freezes_its_axis() -> None:
    def forgetful(ctx: Any, x: Any) -> tuple[Any, ...]:
        return (*x.dims[:-1], Fixed(x.shape[-1]))

    broken = {"relu": replace(RULES["relu"], function=forgetful)}
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with RULES.scoped(broken):
        net = trace(model, (torch.randn(2, 4),))
    (axis,) = (net.axes[str(net.tensors["0.weight"].dims[0])],)
    assert axis.frozen is not None
    assert "aten.relu" in axis.frozen


class Tables(nn.Module):
    """A learned table of positions, a product of two parameters, and thirds of a fused weight."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
        self.positions = nn.Parameter(torch.randn(1, 64, 8))
        self.up, self.down = nn.Parameter(torch.randn(8, 5)), nn.Parameter(torch.randn(5, 8))
        self.fused = nn.Parameter(torch.randn(14, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(x) + F.dropout(self.positions, training=False)[:, : x.shape[1]]
        y = y @ (self.up @ self.down)
        first, second = self.fused[:7], self.fused[7:]
        return self.last(((y @ first.t()) * (y @ second.t())) @ first)


def test_positions_beyond_the_traced_ones_are_no_units_that_may_go() -> None:
    net = trace(Tables(), (torch.randn(2, 10, 4),))
    rest = net.tensors["positions"].dims[1]
    assert isinstance(rest, Sum)
    assert [net.shape((term,)) for term in rest.terms] == [(10,), (54,)]
    reasons = [net.axes[term.axis].frozen for term in rest.terms if isinstance(term, Atom)]
    assert reasons[-1] == "the traced forward cuts it away"
    assert all(reasons)
    free = {str(d) for name in ("down", "fused") for d in net.tensors[name].dims[:1]}
    assert not any(net.axes[axis].frozen for name in free for axis in name.split(" | "))


@pytest.mark.parametrize(
    ("dim", "found"),
    [
        (Prod((Atom("a"), Atom("b"))), set()),
        (Prod((Atom("a"), Fixed(2), Atom("a"))), {"a"}),
        (Sum((Atom("a"), Prod((Atom("b"), Sum((Atom("b"), Atom("c"))))))), {"b"}),
        (Sum((Atom("a"), Atom("a"))), set()),
    ],
)
def test_an_axis_twice_in_one_product_is_frozen(dim: Any, found: set[str]) -> None:
    assert set(overlooked(torch.fx.Graph(), {}, {"w": (dim,)})) == found
