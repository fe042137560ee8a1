"""Layers in two factors, and beside a sparse one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pruners.factors import Parts, SparseLowRank, factorable, factored
from pruners.solvers import Factors, as_matrix, from_matrix, solve

TOLERANCE = {torch.bfloat16: 5e-2, torch.float32: 1e-5, torch.float64: 1e-12}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"up": nn.Linear(8, 24), "down": nn.Linear(24, 8, bias=False)})
        self.attention = nn.MultiheadAttention(8, 2)
        self.tied = nn.Linear(8, 8)
        self.again = nn.Linear(8, 8)
        self.again.weight = self.tied.weight
        self.grouped = nn.Conv1d(8, 8, 1, groups=2)
        self.watched = nn.Linear(8, 8)
        self.watched.register_forward_hook(lambda *_: None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body["down"](self.body["up"](x).relu())


LAYERS = {
    "linear": (lambda: nn.Linear(8, 6), (5, 8)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), padding=1, padding_mode="circular"), (2, 4, 5, 6)),
    "conv2d dilated": (lambda: nn.Conv2d(4, 6, 3, dilation=2, bias=False), (2, 4, 7, 8)),
    "conv3d": (lambda: nn.Conv3d(3, 5, 2, stride=(1, 2, 1)), (1, 3, 4, 4, 4)),
}  # fmt: skip


def net(dtype=torch.float64):
    torch.manual_seed(0)
    return Net().to(dtype).eval()


def parts(model, rank=3):
    names = ("body.up.weight", "body.down.weight")
    found = {n: solve("low-rank", model.get_parameter(n), None, rank=rank) for n in names}
    return found, {name: solution.factors for name, solution in found.items()}


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_factors_compute_what_their_product_computes(dtype):
    model, x = net(dtype), torch.randn(5, 8, dtype=dtype)
    found, factors = parts(model)
    dense = copy.deepcopy(model)
    dense.load_state_dict({**dense.state_dict(), **{n: s.weight for n, s in found.items()}})
    thin = factored(model, factors)
    assert thin is model
    tolerance = TOLERANCE[dtype]
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


@pytest.mark.parametrize("sparse", [False, True], ids=["low-rank", "sparse + low-rank"])
@pytest.mark.parametrize("kind", list(LAYERS))
def test_every_kind_of_layer_has_the_form(kind, sparse):
    build, shape = LAYERS[kind]
    model, x = nn.Sequential(build()).double().train(), torch.randn(*shape, dtype=torch.float64)
    weight = model[0].weight
    rank = 2
    factors = solve("low-rank", weight, None, rank=rank).factors
    rest = torch.randn_like(weight) * (torch.rand_like(weight) < 0.3) if sparse else None
    dense = copy.deepcopy(model)
    effective = from_matrix(factors.product(), weight.shape) + (0 if rest is None else rest)
    dense[0].weight = nn.Parameter(effective)
    thin = factored(model, {"0.weight": Parts(factors, rest)})
    torch.testing.assert_close(thin(x), dense(x))
    assert isinstance(thin[0], SparseLowRank if sparse else nn.Sequential)
    assert thin[0].training
    numbers = sum(p.numel() for n, p in thin.named_parameters() if not n.endswith("bias"))
    columns = as_matrix(weight).shape[1]
    assert numbers == rank * (weight.shape[0] + columns) + (weight.numel() if sparse else 0)
    thin(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in thin.parameters())


def test_full_rank_leaves_the_outputs():
    model, x = net(), torch.randn(5, 8, dtype=torch.float64)
    before = model(x)
    thin = factored(model, parts(model, rank=8)[1])
    torch.testing.assert_close(thin(x), before)


REFUSED = {
    "body.up.bias": "is not the weight of a layer inside the model",
    "nothing.weight": "is not the weight of a layer inside the model",
    "attention.out_proj.weight": "NonDynamicallyQuantizableLinear has no factored form",
    "attention.in_proj_weight": "is not the weight of a layer inside the model",
    "tied.weight": "is shared by several modules",
    "grouped.weight": "is a convolution in groups",
    "watched.weight": "its layer has hooks",
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_has_no_such_form_is_refused_and_nothing_changes(name):
    model = net()
    assert factorable(model, ["body.up.weight", name])["body.up.weight"] is None
    before = {n: v.clone() for n, v in model.state_dict().items()}
    good = parts(model)[1]["body.up.weight"]
    bad = Factors(torch.zeros(8, 2), torch.zeros(2, 8))
    with pytest.raises(ValueError, match=REFUSED[name]):
        factored(model, {"body.up.weight": good, name: bad})
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[n], v) for n, v in before.items())


def test_parts_of_another_shape_are_refused():
    model = net()
    factors = Factors(torch.zeros(24, 2), torch.zeros(2, 8))
    with pytest.raises(ValueError, match=r'"body.down.weight" is a matrix of \(8, 24\)'):
        factored(model, {"body.down.weight": factors})
    wrong = Parts(Factors(torch.zeros(8, 2), torch.zeros(2, 24)), torch.zeros(24, 8))
    with pytest.raises(ValueError, match=r"its sparse part \(24, 8\)"):
        factored(model, {"body.down.weight": wrong})
    assert isinstance(model.body["down"], nn.Linear)
