"""Linear modules in two factors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pruners.factors import factored
from pruners.solvers import Factors, solve


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"up": nn.Linear(8, 24), "down": nn.Linear(24, 8, bias=False)})
        self.attention = nn.MultiheadAttention(8, 2)
        self.tied = nn.Linear(8, 8)
        self.again = nn.Linear(8, 8)
        self.again.weight = self.tied.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body["down"](self.body["up"](x).relu())


def net(dtype=torch.float64):
    torch.manual_seed(0)
    return Net().to(dtype).eval()


def parts(model, rank=3):
    names = ("body.up.weight", "body.down.weight")
    found = {n: solve("low-rank", model.get_parameter(n), None, rank=rank) for n in names}
    return found, {name: solution.factors for name, solution in found.items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_factors_compute_what_their_product_computes(dtype):
    model, x = net(dtype), torch.randn(5, 8, dtype=dtype)
    found, factors = parts(model)
    dense = copy.deepcopy(model)
    dense.load_state_dict({**dense.state_dict(), **{n: s.weight for n, s in found.items()}})
    thin = factored(model, factors)
    assert thin is model
    tolerance = {torch.bfloat16: 5e-2, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(thin(x), dense(x), rtol=tolerance, atol=tolerance)
    shapes = {n: tuple(v.shape) for n, v in thin.state_dict().items() if n.startswith("body")}
    assert shapes == {
        "body.up.0.weight": (3, 8),
        "body.up.1.weight": (24, 3),
        "body.up.1.bias": (24,),
        "body.down.0.weight": (3, 24),
        "body.down.1.weight": (8, 3),
    }
    assert all(v.dtype == dtype for v in thin.state_dict().values())
    assert not thin.body["up"].training


def test_full_rank_leaves_the_outputs_and_the_factors_train():
    model, x = net(), torch.randn(5, 8, dtype=torch.float64)
    before = model(x)
    thin = factored(model, parts(model, rank=8)[1])
    torch.testing.assert_close(thin(x), before)
    thin(x).sum().backward()
    assert thin.body["up"][0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("body.up.bias", (24, 8), "is not the weight of an nn.Linear"),
        ("nothing.weight", (24, 8), "is not the weight of an nn.Linear"),
        ("attention.out_proj.weight", (8, 8), "is not the weight of an nn.Linear"),
        ("tied.weight", (8, 8), "is shared by several modules"),
        ("body.down.weight", (24, 8), "its factors are"),
    ],
)
def test_what_has_no_such_form_is_refused_and_nothing_changes(name, shape, words):
    model = net()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    good = parts(model)[1]["body.up.weight"]
    bad = Factors(torch.zeros(shape[0], 2), torch.zeros(2, shape[1]))
    with pytest.raises(ValueError, match=words):
        factored(model, {"body.up.weight": good, name: bad})
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[n], v) for n, v in before.items())
