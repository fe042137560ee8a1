"""A rule that overlooks an axis costs it its freedom, never the network its correctness."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.dims import Atom, Fixed, Prod, Sum
from graphs.guard import overlooked
from graphs.rules import RULES


def test_a_rule_that_forgets_a_dimension_freezes_its_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(ctx: Any, x: Any) -> tuple[Any, ...]:
        return (*x.dims[:-1], Fixed(x.shape[-1]))

    monkeypatch.setitem(RULES, "relu", replace(RULES["relu"], function=forgetful))
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    net = trace(model, (torch.randn(2, 4),))
    (axis,) = (net.axes[str(net.tensors["0.weight"].dims[0])],)
    assert axis.frozen is not None
    assert "aten.relu" in axis.frozen


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
