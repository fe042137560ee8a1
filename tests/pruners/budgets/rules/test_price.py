from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from graphs import trace
from pruners.budgets import allocate_masks, prunable_weights, solving
from pruners.budgets.problems.masks import marginal_price
from pruners.solvers import solve
from pruners.statistics import Imitation
from tests.pruners.conftest import make


def pruned(net, shares):
    return {
        name: solve("magnitude", net.tensors[name].value, share).weight
        for name, share in shares.items()
    }


@pytest.mark.parametrize("name", ["mlp", "cnn", "attention"])
@pytest.mark.parametrize("density", [0.3, 0.6])
def test_price_keeps_the_budget_and_never_loses_to_its_start(name, density):
    case = make(name)
    loss = Imitation(case.model, [case.inputs])
    weights = prunable_weights(case.net)
    size = sum(case.net.tensors[n].value.numel() for n in weights)
    for start in (None, dict.fromkeys(weights, density)):
        first = allocate_masks("lamp", case.net, density) if start is None else start
        found = allocate_masks("price", case.net, density, loss=loss, steps=6, start=start)
        kept = sum(share * case.net.tensors[n].value.numel() for n, share in found.items())
        assert kept == pytest.approx(int(density * size + 1e-6))
        before, after = (loss(pruned(case.net, s))[0] for s in (first, found))
        assert after <= before + 1e-9


def test_price_finds_the_tensor_that_matters():
    """One layer is followed by a large gain: what is kept there is worth more."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20), nn.Linear(20, 8)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(20) + 1e-3 * torch.randn(20, 20))  # hardly needs weights
    x = torch.randn(64, 20, dtype=torch.float64)
    net = trace(model.eval(), (x,))
    loss = Imitation(model, [x])
    uniform = allocate_masks("uniform", net, 0.5)
    found = allocate_masks("price", net, 0.5, loss=loss, start=uniform)
    assert found["1.weight"] < 0.35 < 0.5 < found["0.weight"]
    assert loss(pruned(net, found))[0] < 0.3 * loss(pruned(net, uniform))[0]


def test_price_is_deterministic_and_the_ends_are_trivial(dense_mlp):
    loss = Imitation(dense_mlp.model, [dense_mlp.inputs])
    twice = [allocate_masks("price", dense_mlp.net, 0.4, loss=loss, steps=3) for _ in range(2)]
    assert twice[0] == twice[1]
    for density in (0.0, 1.0):
        shares = allocate_masks("price", dense_mlp.net, density, loss=loss)
        assert set(shares.values()) == {density}


def test_a_loss_that_is_not_finite_is_refused(dense_mlp):
    broken = lambda values: (float("nan"), values)  # noqa: E731
    with pytest.raises(ValueError, match="not finite at step 0"):
        allocate_masks("price", dense_mlp.net, 0.5, loss=broken)


def test_marginal_price_averages_near_the_threshold():
    magnitudes = torch.arange(1.0, 101.0)
    assert marginal_price(torch.full((100,), -2.0), magnitudes, 40) == pytest.approx(-2.0)
    near = torch.where((magnitudes - 60.5).abs() < 10, -1.0, 0.0)
    far = torch.where((magnitudes - 60.5).abs() > 30, -1.0, 0.0)
    assert marginal_price(near, magnitudes, 40) < -0.8
    assert marginal_price(far, magnitudes, 40) > -0.01
    for kept in (0, 1, 99, 100):
        assert marginal_price(-magnitudes, magnitudes, kept) < 0
    assert marginal_price(torch.ones(4), torch.zeros(4), 2) == pytest.approx(1.0)


def test_imitation_is_the_divergence_with_its_gradient():
    case = make("cnn")
    batches = [case.inputs, (case.inputs[0][:1] * 2,)]
    loss = Imitation(case.model, batches)
    weight = case.net.tensors["conv2.weight"].value
    value, gradients = loss({"conv2.weight": weight})
    assert value == pytest.approx(0.0, abs=1e-12)
    assert gradients["conv2.weight"].abs().max() < 1e-9
    changed = (weight * 0.8).requires_grad_()
    value, gradients = loss({"conv2.weight": changed})
    everything = torch.cat([batch[0] for batch in batches])
    dense = case.model(everything).log_softmax(-1)
    other = torch.func.functional_call(case.model, {"conv2.weight": changed}, (everything,))
    expected = (dense.exp() * (dense - other.log_softmax(-1))).sum(-1).mean()
    assert value == pytest.approx(expected.item())
    (slope,) = torch.autograd.grad(expected, changed)
    torch.testing.assert_close(gradients["conv2.weight"], slope)
    assert changed.grad is None


def test_imitation_reads_the_usual_outputs_and_refuses_others():
    class Wrapped(nn.Module):
        def __init__(self, wrap) -> None:
            super().__init__()
            self.inner, self.wrap = nn.Linear(3, 2), wrap

        def forward(self, x):
            return self.wrap(self.inner(x))

    x = torch.randn(4, 3)
    for wrap in (lambda y: y, lambda y: (y, None), lambda y: SimpleNamespace(logits=y)):
        model = Wrapped(wrap)
        assert Imitation(model, [{"x": x}])({"inner.weight": torch.zeros(2, 3)})[0] > 0
    with pytest.raises(TypeError, match="scores of classes"):
        Imitation(Wrapped(lambda y: {"scores": y}), [x])
    with pytest.raises(ValueError, match="at least one calibration batch"):
        Imitation(Wrapped(lambda y: y), [])


def test_imitation_leaves_the_model_as_it_was():
    case = make("cnn")
    model = case.model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss = Imitation(model, [case.inputs])
    loss({"fc.weight": torch.zeros_like(model.fc.weight)})
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("rule", ["price", "search"])
def test_a_budget_may_be_judged_by_the_solver_that_will_prune(rule):
    """With bare magnitude as the solver nothing changes; with a repair the budget suits it."""
    case = make("mlp")
    net, names = case.net, prunable_weights(case.net)
    loss = Imitation(case.model, [case.inputs])
    options = {"steps": 3} if rule == "price" else {"evaluations": 12}
    plain = solving(net, [case.inputs], names, "magnitude", repair_steps=0)
    bare, same = (
        allocate_masks(rule, net, 0.4, loss=loss, solve=solve, **options) for solve in (None, plain)
    )
    assert bare == same
    repaired = solving(net, [case.inputs], names)

    def judged(shares):
        return loss.value({name: repaired(name, share) for name, share in shares.items()})

    suited = allocate_masks(rule, net, 0.4, loss=loss, solve=repaired, start=bare, **options)
    assert judged(suited) <= judged(bare) + 1e-9
    weight = repaired("0.weight", 0.5)
    assert int((weight != 0).sum()) <= round(0.5 * weight.numel())
