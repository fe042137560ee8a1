"""Laws of the refit that goes through the pruned network layer by layer."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from graphs import trace
from pruners.recovery.refit import input_moments, refit
from pruners.recovery.refit_in_order import refit_in_order
from tests.pruners.conftest import make, removed
from tests.pruners.networks import randomized
from tests.pruners.recovery.test_refit import CONSUMERS, consumer, cut, lost


def run(model, net, kept, batches, **options):
    small = net.remove(removed(net, kept))
    pruned = small.to_model()
    found = refit_in_order(net, model, small, pruned, kept, batches, **options)
    return small, pruned, found


def deep():
    """Three layers in a row that lose units."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = randomized(
            nn.Sequential(
                nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16),
                nn.ReLU(), nn.Linear(16, 4),
            ).double()
        )  # fmt: skip
        x = torch.randn(200, 6, dtype=torch.float64)
    return model, trace(model, (x[:3],)), x


@pytest.mark.parametrize("name", sorted(set(CONSUMERS) - {"concatenated"}))
def test_one_consumer_gets_what_the_refit_gives(name):
    """With one layer behind the cut there are no errors before it to answer for."""
    model, net, x = consumer(name)
    kept = cut(net)
    small, _, found = run(model, net, kept, [x[:15], x[15:]], damping=0.0)
    expected = refit(net, kept, input_moments(net, model, [x]), 0.0)
    ours = small.replace(found.values).to_model()
    theirs = net.replace(expected.values).remove(removed(net, kept)).to_model()
    torch.testing.assert_close(ours(x), theirs(x))
    assert found.errors["b.weight"] == pytest.approx(expected.errors["b.weight"])


@pytest.mark.parametrize("name", ["deep", *sorted(set(CONSUMERS) - {"concatenated"})])
def test_batches_that_begin_anew_for_each_layer_give_the_same(name):
    model, net, x = deep() if name == "deep" else consumer(name)
    batches = [x[:15], x[15:]]
    once, again = (run(model, net, cut(net), batches, again=way)[2] for way in (False, True))
    assert once.values.keys() == again.values.keys()
    assert all(torch.equal(once.values[key], again.values[key]) for key in once.values)
    assert once.errors == again.errors


def test_the_last_layer_gets_the_best_weights_for_the_network_that_is_there():
    model, net, x = deep()
    small, _, found = run(model, net, cut(net), [x], damping=0.0)
    fitted = small.replace(found.values).to_model()
    features = fitted[:-1](x).detach()
    design = torch.cat([features, features.new_ones(len(x), 1)], 1)
    target = model(x).detach()
    best = design @ torch.linalg.lstsq(design, target, driver="gelsd").solution
    assert lost(model, fitted, x) == pytest.approx((best - target).square().sum().item(), rel=1e-6)


def test_errors_of_layers_do_not_add_up():
    """Better than refitting every layer for itself."""
    model, net, x = deep()
    kept = cut(net)
    own = refit(net, kept, input_moments(net, model, [x]))
    alone = lost(model, net.replace(own.values).remove(removed(net, kept)).to_model(), x)
    small, _, found = run(model, net, kept, [x])
    assert lost(model, small.replace(found.values).to_model(), x) < 0.9 * alone


def test_nothing_removed_changes_nothing(case):
    small, _, found = run(case.model, case.net, {}, [case.inputs])
    for name, value in found.values.items():
        torch.testing.assert_close(value, small.tensors[name].value, rtol=1e-5, atol=1e-7)


def test_everything_is_left_as_it_was(cnn):
    model, net = cnn.model.train(), cnn.net
    kept = cut(net)
    small = net.remove(removed(net, kept))
    pruned = small.to_model().train()
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in (model, pruned)]
    found = refit_in_order(net, model, small, pruned, kept, [cnn.inputs])
    assert found.values
    for module, state in zip((model, pruned), before, strict=True):
        assert module.training
        for name, value in module.state_dict().items():
            assert torch.equal(value, state[name]), name
    small.replace(found.values)


def test_heads_and_embeddings():
    case = make("attention")
    tokens = torch.randint(0, 11, (30, 6), generator=torch.Generator().manual_seed(0))
    kept = cut(case.net, 0.7)
    small, pruned, found = run(case.model, case.net, kept, [tokens])
    fitted = small.replace(found.values).to_model()
    assert lost(case.model, fitted, tokens) < 0.9 * lost(case.model, pruned, tokens)


def test_kernels_of_single_channels_are_refitted_too():
    """They lose no inputs, but what comes in has changed."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 4, 1),
    )  # fmt: skip
    model = randomized(model.double())
    x = torch.randn(20, 3, 6, 6, dtype=torch.float64)
    net = trace(model, (x[:3],))
    kept = cut(net)
    small, pruned, found = run(model, net, kept, [x])
    assert {"5.weight", "6.running_mean"} <= set(found.values)
    assert found.not_refitted == {}
    fitted = small.replace(found.values).to_model()
    assert lost(model, fitted, x) < 0.7 * lost(model, pruned, x)


def test_bf16_weights_keep_their_dtype():
    model, _, x = deep()
    model = model.bfloat16()
    net = trace(model, (x[:3].bfloat16(),))
    _, _, found = run(model, net, cut(net), [x.bfloat16()])
    assert found.values
    assert all(value.dtype == torch.bfloat16 for value in found.values.values())


def test_batches_together_give_what_one_gives():
    model, net, x = deep()
    _, _, whole = run(model, net, cut(net), [x])
    _, _, split = run(model, net, cut(net), [x[:50], x[50:51], x[51:]])
    for name, value in whole.values.items():
        torch.testing.assert_close(split.values[name], value)


def test_a_weight_that_is_called_twice_is_left_and_that_is_said():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.a(x).relu()
            return self.c(self.b(self.b(x).relu()).relu())

    model = randomized(Twice().double())
    x = torch.randn(50, 6, dtype=torch.float64)
    net = trace(model, (x[:3],))
    _, _, found = run(model, net, cut(net), [x])
    assert found.not_refitted == {"b.weight": "the forward calls it several times"}
    assert "c.weight" in found.errors


def test_what_a_forward_raises_arrives_and_no_pass_is_left_behind():
    model, net, x = deep()
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="shape"):
        run(model, net, cut(net), [x, x[:, :5]])
    assert threading.active_count() == before


def test_a_refit_needs_batches(dense_mlp):
    with pytest.raises(ValueError, match="at least one calibration batch"):
        run(dense_mlp.model, dense_mlp.net, cut(dense_mlp.net), [])
