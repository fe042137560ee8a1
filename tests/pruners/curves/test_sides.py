"""Both sides of weights, against what a forward and a backward pass by hand say."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphs import trace
from pruners.curves import Sides, measure_sides
from pruners.solvers import as_matrix
from pruners.statistics import Likelihood
from pruners.statistics.calls import LinearCalls
from pruners.statistics.calls.rows import input_blocks
from tests.pruners.conftest import make
from tests.pruners.networks import randomized
from tests.pruners.recovery.test_refit import CONSUMERS, consumer


def score(model, batch):
    """A loss with a gradient that differs from example to example."""
    out = model(batch).flatten(1)
    return (out * torch.arange(1.0, out.shape[1] + 1).to(out)).sin().sum()


def by_hand(model, batches, name):
    """Inputs (groups, samples, in) and gradients (groups, places, out) of the calls of a weight."""
    weight, inputs, gradients = dict(model.named_parameters())[name], [], []

    def after(call, output):
        if call.weight is not weight:
            return
        places = call.input.shape[0] if call.channel_dim == 1 else 1
        rows = (
            input_blocks(call)
            .flatten(0, 1)
            .reshape(places, call.groups, -1, call.weight[0].numel())
        )
        inputs.append(rows.transpose(0, 1).flatten(1, 2))
        output.register_hook(
            lambda g: gradients.append(
                g.movedim(call.channel_dim, -1).flatten(0, -2).unflatten(1, (call.groups, -1))
            )
        )

    for batch in batches:
        with LinearCalls(after=after):
            loss = score(model, batch)
        loss.backward()
    return torch.cat(inputs, 1), torch.cat(gradients).transpose(0, 1)


@pytest.mark.parametrize("name", sorted(CONSUMERS))
def test_they_are_moments_of_what_goes_in_and_of_gradients_at_what_comes_out(name):
    """Kernels, strides, groups, concatenations; about the mean where something takes a constant."""
    model, net, x = consumer(name, batch=12)
    weights = [n for n, t in net.tensors.items() if t.role == "weight"]
    batches = [x[:5], x[5:]]
    asked = Likelihood(loss_fn=score)
    found = measure_sides(net, model, batches, weights, asked)
    assert list(found) == weights
    for weight in weights:
        one = found[weight]
        inputs, gradients = by_hand(model, batches, weight)
        if not (name == "no bias" and weight == "b.weight"):
            inputs = inputs - inputs.mean(1, keepdim=True)
        assert one.samples == inputs.shape[1]
        assert one.reached
        torch.testing.assert_close(one.hessian, inputs.mT @ inputs / inputs.shape[1])
        # Two batches, two losses.
        torch.testing.assert_close(one.curvature, gradients.mT @ gradients / 2)
        value = net.tensors[weight].value
        torch.testing.assert_close(one.weight.flatten(0, 1), as_matrix(value))
        change = torch.randn_like(one.weight)
        effects = torch.einsum("gpo,goi,gsi->gps", gradients, change, inputs)
        mean = effects.square().sum() / 2 / inputs.shape[1] / 2
        assert one.loss(change) == pytest.approx(mean.item(), rel=1e-9)


def test_a_model_is_left_as_it_was():
    model, net, x = consumer("normed")
    model.train()
    model.a.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure_sides(net, model, [x], ["a.weight", "b.weight"])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert not model.a.weight.requires_grad
    assert model.b.weight.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_the_expected_loss_is_the_divergence_of_a_small_change():
    """One example and its own prediction: then inputs and gradients are independent."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5, bias=False)).double()
    x = torch.randn(1, 6, dtype=torch.float64)
    net = trace(model, (x,))
    asked = Likelihood(temperature=1.0, draws=3000)
    one = measure_sides(net, model, [x], ["0.weight"], asked)["0.weight"]
    change = 1e-3 * torch.randn(1, 5, 6, dtype=torch.float64)
    dense = model(x).log_softmax(-1)
    other = F.linear(x, model[0].weight + change[0]).log_softmax(-1)
    divergence = (dense.exp() * (dense - other)).sum().item()
    assert one.loss(change) == pytest.approx(divergence, rel=0.1)


class Blocked(nn.Module):
    """What its first layer does reaches the output without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(F.relu(self.b(F.relu(self.a(x)).detach())))


def test_what_no_gradient_reaches_counts_as_an_average_weight():
    model = randomized(Blocked().double())
    x = torch.randn(30, 6, dtype=torch.float64)
    net = trace(model, (x[:3],))
    found = measure_sides(net, model, [x], ["a.weight", "b.weight", "c.weight"])
    assert {name: one.reached for name, one in found.items()} == {
        "a.weight": False, "b.weight": True, "c.weight": True,
    }  # fmt: skip
    middle = torch.tensor([found["b.weight"].energy, found["c.weight"].energy]).median().item()
    assert found["a.weight"].energy == pytest.approx(middle)
    curvature = found["a.weight"].curvature[0]
    torch.testing.assert_close(curvature, curvature[0, 0] * torch.eye(8).double())
    assert found["a.weight"].statistics() == {}
    shared = found["b.weight"].statistics()["curvature"]
    torch.testing.assert_close(shared, found["b.weight"].curvature[0].float())


@pytest.mark.parametrize("how", ["no_grad", "argmax"])
def test_where_all_gradients_are_blocked_all_weights_count_alike(how):
    class Deaf(Blocked):
        def forward(self, x):
            with torch.no_grad():
                found = super().forward(x)
            return found.argmax(-1) if how == "argmax" else found

    model = randomized(Deaf().double())
    x = torch.randn(30, 6, dtype=torch.float64)
    net = trace(model, (x[:3],))
    found = measure_sides(net, model, [x], ["a.weight", "b.weight", "c.weight"])
    assert [one.reached for one in found.values()] == [False] * 3
    assert [one.energy for one in found.values()] == pytest.approx([1.0] * 3)


def test_very_many_outputs_have_a_diagonal(monkeypatch):
    model, net, x = consumer("grouped")
    whole = measure_sides(net, model, [x], ["b.weight"])["b.weight"]
    monkeypatch.setattr("pruners.statistics.curvature.LARGEST", 3)
    one = measure_sides(net, model, [x], ["b.weight"])["b.weight"]
    assert one.curvature.shape == whole.curvature.shape == (2, 3, 3)
    torch.testing.assert_close(one.curvature, whole.curvature.diagonal(dim1=1, dim2=2).diag_embed())


def test_weights_that_nothing_measured_are_missing():
    """Embeddings look rows up: there is no product to take moments of."""
    case = make("attention")
    found = measure_sides(case.net, case.model, [case.inputs], ["embed.weight", "q.weight"])
    assert list(found) == ["q.weight"]
    with pytest.raises(ValueError, match="at least one calibration batch"):
        measure_sides(case.net, case.model, [], ["q.weight"])


@pytest.mark.parametrize(
    ("where", "words"), [("weight", 'b.weight": it has'), ("batch", 'a.weight": its inputs')]
)
def test_numbers_that_are_not_finite_are_refused_where_they_begin(where, words):
    model = randomized(Blocked().double())
    x = torch.randn(30, 6, dtype=torch.float64)
    net = trace(model, (x[:3],))
    with torch.no_grad():
        (model.b.weight if where == "weight" else x)[0, 0] = float("nan")
    names = ["b.weight"] if where == "weight" else ["a.weight", "b.weight"]
    with pytest.raises(ValueError, match=words):
        measure_sides(net, model, [x], names)


def test_energy_is_the_loss_of_everything():
    one = Sides(
        torch.ones(2, 1, 3).double(), torch.eye(3).double().expand(2, 3, 3),
        torch.full((2, 1, 1), 4.0).double(), 10.0,
    )  # fmt: skip
    assert one.energy == one.loss(-one.weight) == 12.0
    assert one.loss(torch.zeros(2, 1, 3).double()) == 0.0
    torch.testing.assert_close(one.statistics()["curvature"], 4 * torch.eye(2))
