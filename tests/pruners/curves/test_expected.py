"""What a network is expected to lose: measured when asked, and the same however batches come."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from pruners.curves import ExpectedLoss
from pruners.solvers import MaskPattern
from pruners.statistics import Likelihood
from pruners.statistics.curvature import CUT_OFF
from tests.pruners.conftest import make
from tests.pruners.curves.test_sides import Blocked
from tests.pruners.networks import randomized


def images(count=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 6, 6, generator=generator, dtype=torch.float64)


def test_nothing_runs_before_it_is_asked():
    case, calls = make("cnn"), []
    case.model.register_forward_hook(lambda *_: calls.append(1))
    expected = ExpectedLoss(case.net, [images()], model=case.model)
    assert calls == []
    assert expected.model is case.model
    found = expected.sides
    assert len(calls) > 0
    before = len(calls)
    assert expected.sides is found
    assert len(calls) == before
    assert expected.prediction is None
    assert expected.unreached == {}


def test_all_weights_with_inputs_are_measured_or_those_that_are_named():
    case = make("cnn")
    every = ExpectedLoss(case.net, [images()])
    assert set(every.sides) == {"stem.weight", "conv1.weight", "conv2.weight", "fc.weight"}
    some = ExpectedLoss(case.net, [images()], ["fc.weight"])
    assert list(some.sides) == ["fc.weight"]
    torch.testing.assert_close(
        some.sides["fc.weight"].curvature, every.sides["fc.weight"].curvature
    )
    assert every.model is every.model


SPLITS = {
    "one by one": lambda x: list(x.split(1)),
    "uneven": lambda x: list(x.split([1, 9, 2, 12])),
    "in another order": lambda x: list(x.split(6))[::-1],
    "shuffled": lambda x: [x[torch.randperm(len(x))]],
}


@pytest.mark.parametrize("split", SPLITS)
def test_batches_may_be_cut_and_ordered_at_will(split):
    """To rounding: draws belong to the content of an example."""
    case = make("cnn")
    one, two = (
        ExpectedLoss(case.net, batches).sides for batches in ([images()], SPLITS[split](images()))
    )
    for name, found in one.items():
        assert two[name].samples == found.samples
        torch.testing.assert_close(two[name].hessian, found.hessian)
        torch.testing.assert_close(two[name].curvature, found.curvature)
        assert two[name].energy == pytest.approx(found.energy)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_a_loss_may_be_summed_or_averaged(scale):
    """Over batches of one size: its scale is that of all curvature alike."""
    case = make("cnn")

    def loss(model, batch):
        return scale * nn.functional.cross_entropy(
            model(batch), torch.arange(len(batch)) % 5, reduction=reduction
        )

    batches, found = list(images().split(8)), {}
    for reduction in ("mean", "sum"):
        asked = Likelihood(loss_fn=loss)
        found[reduction] = ExpectedLoss(case.net, batches, likelihood=asked).sides
    for name, one in found["mean"].items():
        torch.testing.assert_close(64 * one.curvature, found["sum"][name].curvature)


def test_the_same_input_gives_the_same_bit_for_bit():
    case = make("attention")
    tokens = torch.arange(60).reshape(10, 6) % 11
    one, two = (ExpectedLoss(case.net, [tokens]).sides for _ in range(2))
    for name, found in one.items():
        assert torch.equal(found.curvature, two[name].curvature)
        assert torch.equal(found.hessian, two[name].hessian)


def test_a_part_is_measured_and_the_rest_judges():
    case = make("cnn")
    expected = ExpectedLoss(case.net, [images()], ["fc.weight"], model=case.model)
    part, judge = expected.divided()
    assert sum(len(batch) for batch in part.batches) == 18
    assert list(part.sides) == ["fc.weight"]
    assert part.model is case.model
    assert judge(case.model) == 0.0


def test_after_units_went_the_network_is_smaller_and_measured_anew():
    case = make("cnn")
    expected = ExpectedLoss(case.net, [images()])
    same = expected.after({"stem.out": torch.arange(8)})
    assert same.net is case.net
    smaller = expected.after({"stem.out": torch.tensor([1, 4, 6]), "conv1.out": torch.arange(5)})
    assert smaller.net.axes["stem.out"].size == 3
    assert smaller.sides["conv2.weight"].weight.shape == (1, 3, 5 * 9)
    assert case.net.axes["stem.out"].size == 8
    torch.testing.assert_close(smaller.net.to_model()(images()), smaller.model(images()))
    # And again, as steps do.
    last = smaller.after({"stem.out": torch.tensor([0, 2])})
    assert last.net.axes["stem.out"].size == 2
    assert last.sides["fc.weight"].weight.shape == (1, 5, 8)


@pytest.mark.parametrize("pattern", ["unstructured", "row", "2:4"])
def test_a_masked_network_keeps_what_it_was_asked_to(pattern):
    """Whole numbers of M where a share lies between them."""
    torch.manual_seed(0)
    model = randomized(nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4)).double())
    x = torch.randn(60, 8, dtype=torch.float64)
    net = trace(model, (x[:2],))
    expected = ExpectedLoss(net, [x])
    shares = {"0.weight": 0.45, "2.weight": 1.0}
    masked = expected.masked(shares, "admm", MaskPattern.parse(pattern))
    kept = (masked[0].weight != 0).double().mean().item()
    assert kept == pytest.approx(0.5 if pattern != "unstructured" else 43 / 96, abs=1e-9)
    assert (masked[2].weight != 0).all()
    torch.testing.assert_close(model[2].weight, net.tensors["2.weight"].value)
    curved = expected.curved_by(masked)
    for name, one in expected.sides.items():
        assert torch.equal(curved[name].weight, one.weight)
        assert torch.equal(curved[name].hessian, one.hessian)
        assert not torch.equal(curved[name].curvature, one.curvature)
    for name, one in expected.curved_by(model).items():
        torch.testing.assert_close(one.curvature, expected.sides[name].curvature)


def test_weights_that_no_gradient_reaches_are_named():
    model = randomized(Blocked().double())
    x = torch.randn(30, 6, dtype=torch.float64)
    assert ExpectedLoss(trace(model, (x[:3],)), [x]).unreached == {"a.weight": CUT_OFF}


class Unordered(nn.Module):
    """A weight that nothing measures, one that is called twice, and one in between."""

    def __init__(self) -> None:
        super().__init__()
        self.unmeasured = nn.Parameter(torch.empty(12, 8))
        self.twice, self.head = nn.Linear(12, 12), nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(torch.einsum("oi,bi->bo", self.unmeasured, x))
        return self.head(torch.relu(self.twice(torch.relu(self.twice(x)))))


@pytest.mark.parametrize("pattern", ["unstructured", "row", "2:4"])
@pytest.mark.parametrize("solver", ["magnitude", "admm"])
def test_weights_without_a_place_in_the_order_are_masked_too(solver, pattern):
    model = randomized(Unordered().double())
    x = torch.randn(64, 8, dtype=torch.float64)
    net = trace(model, (x[:3],))
    shares = {"unmeasured": 0.5, "twice.weight": 0.5, "head.weight": 0.5}
    left = ExpectedLoss(net, [x]).masked(shares, solver, MaskPattern.parse(pattern)).state_dict()
    for name in shares:
        assert left[name].count_nonzero() == left[name].numel() / 2
