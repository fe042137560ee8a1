"""Stacks of matrices, and groups that share rows, count as the layers that they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import metaprune
from graphs import trace
from pruners.curves import ExpectedLoss
from pruners.recovery.refit import input_moments
from pruners.recovery.regression import Regression, fit
from pruners.solvers import as_matrix
from pruners.solvers.matrix import from_matrix, matrix_shape, rows_of
from pruners.statistics import Likelihood, collect
from pruners.statistics.calls import LinearCalls
from tests.pruners.networks import randomized
from tests.pruners.statistics.curved import WIDE, Experts, numbers

ONE = Likelihood(1.0, 2)


class Apart(nn.Module):
    """`Experts` with a linear map for every slice."""

    def __init__(self, stacked: Experts) -> None:
        super().__init__()
        self.router, self.head = stacked.router, stacked.head
        self.up = nn.ModuleList(nn.Linear(4, 5, bias=False) for _ in range(3))
        self.down = nn.ModuleList(nn.Linear(5, 4, bias=False) for _ in range(3))
        for k in range(3):
            self.up[k].weight = nn.Parameter(stacked.up[k].detach().T.contiguous())
            self.down[k].weight = nn.Parameter(stacked.down[k].detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        share, chosen = self.router(x).softmax(-1).max(-1)
        y = torch.zeros_like(x)
        for k in range(3):
            here = chosen == k
            if here.any():
                y[here] = self.down[k](self.up[k](x[here]).tanh())
        return self.head(x + share[:, None] * y)


def subject():
    torch.manual_seed(0)
    model, x = randomized(Experts("looked up").double()), numbers(40, 4)
    with torch.no_grad():
        model.router.bias.zero_()
        model.router.weight.copy_(numbers(3, 4, seed=1))
    assert (model.router(x).argmax(-1).bincount(minlength=3) > 4).all()
    return model, x


def test_slices_have_the_sides_of_linear_maps():
    """A pass over experts one by one, held in a list, is the oracle."""
    model, x = subject()
    net = trace(model, (x[:2],))
    sides = ExpectedLoss(net, [(x,)], ["up", "down"], ONE).sides
    apart = Apart(model)
    names = [f"{part}.{k}.weight" for part in ("up", "down") for k in range(3)]
    told = collect(apart, [(x,)], names, ("hessian", "curvature"), dtype=WIDE, likelihood=ONE)
    for part in ("up", "down"):
        one = sides[part]
        for k in range(3):
            weight = getattr(apart, part)[k].weight
            torch.testing.assert_close(one.weight[k], weight.detach())
            known = told.tensors()[f"{part}.{k}.weight"]
            torch.testing.assert_close(one.hessian[k], known["hessian"].double())
            curved = known["curvature"].double()
            torch.testing.assert_close(one.curvature[k], curved, rtol=1e-4, atol=1e-8)
        assert one.reached


def test_rows_of_a_stack_are_slices_and_outputs():
    model, x = subject()
    net = trace(model, (x[:2],))
    assert (rows_of(net, "up"), rows_of(net, "down")) == ((0, 2), (0, 1))
    assert matrix_shape(net, "up") == (15, 4)
    for name, shape in (("up", (3, 4, 5)), ("down", (3, 4, 5))):
        value, rows = net.tensors[name].value, rows_of(net, name)
        matrix = as_matrix(value, rows)
        assert torch.equal(from_matrix(matrix, torch.Size(shape), rows), value)
    assert torch.equal(as_matrix(model.up, (0, 2))[5:10], model.up[1].T)
    assert torch.equal(as_matrix(model.down, (0, 1))[4:8], model.down[1])


@pytest.mark.parametrize("pattern", ["2:4", "unstructured", "channels"])
def test_stacks_are_pruned_by_expected_loss(pattern):
    torch.manual_seed(0)
    model, x = randomized(Experts("looked up")), numbers(256, 4).float()
    target = {"unstructured": {"sparsity": 0.5}, "channels": {"params": "85%"}}.get(pattern)
    result = metaprune.prune(
        model, (x[:2],), pattern=pattern, target=target, calibration=[(x,)],
        budget="uniform" if pattern == "2:4" else {"rule": "expected-loss"},
    )  # fmt: skip
    assert not any("not measured" in note for note in result.report["notes"])
    if pattern == "2:4":
        # Two of four along the inputs of every expert, (3, in, out).
        assert (result.masks["up"].sum(1) == 2).all()
    else:
        assert result.report["expected_loss"]["total"] > 0


@pytest.mark.parametrize("groups", [2, 6])
def test_groups_of_a_transposed_convolution_are_fitted_each_to_its_own_inputs(groups):
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(6, 6, 3, stride=2, groups=groups, bias=False).double()
    x, calls = numbers(8, 6, 5, 5), []
    with LinearCalls(after=lambda call, output: calls.append((call, output.detach()))):
        layer(x)
    ((call, output),) = calls
    sums = Regression.of_call(call, output).about_zero()
    dense = as_matrix(layer.weight.detach(), call.rows)[None]
    assert sums.lost(dense) == pytest.approx(0, abs=1e-8 * sums.yy)
    found = fit(sums, torch.zeros_like(dense), 1e-12).weight
    torch.testing.assert_close(found, dense, rtol=1e-6, atol=1e-8)


def test_what_goes_into_slices_is_counted_by_slice():
    model, x = subject()
    net = trace(model, (x[:2],))
    sums = input_moments(net, model, [(x[:15],), (x[15:],)], ["up"])["up"]
    chosen = model.router(x).argmax(-1)
    assert sums.count.tolist() == chosen.bincount(minlength=3).tolist()
    for k in range(3):
        rows = x[chosen == k]
        torch.testing.assert_close(sums.x_mean[k], rows.mean(0))
        centred = rows - rows.mean(0)
        torch.testing.assert_close(sums.xx[k], centred.T @ centred)
