"""Laws of solvers that go through the network layer by layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from graphs import trace
from graphs.calls.running import run
from pruners import budgets, solvers
from pruners.recovery.solve_in_order import Ask, solve_in_order
from pruners.solvers import MaskPattern
from pruners.solvers.matrix import matrix_shape
from pruners.statistics import input_statistics
from tests.pruners.conftest import make
from tests.pruners.networks import randomized


def asks(net, density, pattern="unstructured", rank=None):
    found = MaskPattern.parse(pattern)
    share = None if found.m else density
    return {name: Ask(share, found, rank) for name in budgets.prunable_weights(net)}


def deep():
    torch.manual_seed(0)
    layers = [nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 8)]
    model = randomized(nn.Sequential(*layers).double())
    x = torch.randn(400, 12, dtype=torch.float64)
    return model, trace(model, (x[:3],)), x


def error(net, values, model, x):
    with torch.no_grad():
        return float((net.replace(values).to_model()(x) - model(x)).square().mean())


@pytest.mark.parametrize("solver", ["wanda", "sparsegpt", "admm"])
@pytest.mark.parametrize("pattern", ["unstructured", "row", "2:4"])
def test_the_network_is_nearer_than_with_every_layer_for_itself(solver, pattern):
    """On the calibration data and on fresh data."""
    model, net, x = deep()
    seen, fresh = x[:300], x[300:]
    wanted = asks(net, 0.5, pattern)
    found = solve_in_order(net, model, solver, wanted, [seen[:100], seen[100:]])
    statistics = input_statistics(model, [seen], list(wanted))
    alone = {
        name: solvers.solve(
            solver, net.tensors[name].value, ask.density, ask.pattern, statistics=statistics[name]
        ).weight
        for name, ask in wanted.items()
    }
    for data in (seen, fresh):
        ours, theirs = (error(net, v, model, data) for v in (found.refit.values, alone))
        assert ours < theirs


@pytest.mark.parametrize("pattern", ["unstructured", "row", "2:4", "1:2"])
def test_masks_are_exactly_what_was_asked(case, pattern):
    wanted = {
        name: ask
        for name, ask in asks(case.net, 0.37, pattern).items()
        if ask.pattern.refusal(*matrix_shape(case.net, name)) is None
    }
    found = solve_in_order(case.net, case.model, "admm", wanted, [case.inputs])
    assert set(found.solutions) == set(wanted)
    for name, solution in found.solutions.items():
        value = case.net.tensors[name].value
        share = solution.mask.double().mean().item()
        goal = wanted[name].pattern
        assert share == pytest.approx(goal.n / goal.m if goal.m else 0.37, abs=1 / value.shape[0])
        assert solution.mask.shape == solution.weight.shape == value.shape
        assert solution.weight.dtype == value.dtype
        assert not solution.weight[~solution.mask].any()
        assert torch.equal(found.refit.values[name], solution.weight)


def test_nothing_to_prune_changes_nothing(case):
    found = solve_in_order(case.net, case.model, "magnitude", asks(case.net, 1.0), [case.inputs])
    pruned = case.net.replace(found.refit.values).to_model()
    torch.testing.assert_close(pruned(*case.inputs), case.model(*case.inputs))


def test_one_layer_is_solved_on_moments_about_the_mean():
    """Its bias takes the intercept, so the mean of the inputs is no reason to keep a weight."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 6)).double()
    x = torch.randn(200, 10, dtype=torch.float64) + 3 * torch.randn(10, dtype=torch.float64)
    net = trace(model, (x[:2],))
    wanted = {"0.weight": Ask(0.5, MaskPattern.parse("row"))}
    found = solve_in_order(net, model, "wanda", wanted, [x])
    scores = model[0].weight.abs() * x.std(0, correction=0)
    best = torch.zeros(6, 10, dtype=torch.bool).scatter_(1, scores.topk(5).indices, True)
    assert torch.equal(found.solutions["0.weight"].mask, best)
    pruned = net.replace(found.refit.values).to_model()
    torch.testing.assert_close(pruned(x).mean(0), model(x).mean(0))


def gpt2():
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=1, n_embd=8, n_head=2, vocab_size=11, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    model = randomized(GPT2LMHeadModel(config).double())
    ids = torch.randint(0, 11, (40, 8))
    return model, ({"input_ids": ids[:2]}), [{"input_ids": part} for part in ids.split(20)]


def decoder():
    torch.manual_seed(0)
    layers = [nn.Conv1d(3, 8, 3), nn.ReLU(), nn.ConvTranspose1d(8, 6, 3, stride=2), nn.ReLU()]
    model = randomized(nn.Sequential(*layers, nn.ConvTranspose1d(6, 4, 2)).double())
    x = torch.randn(40, 3, 9, dtype=torch.float64)
    return model, (x[:2],), [x[:20], x[20:]]


class OverOthers(nn.Module):
    """Attention whose queries, keys and values have weights of their own, and share a bias."""

    def __init__(self):
        super().__init__()
        self.mix = nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.mix(x[..., :8], x[..., 8:14], x[..., 14:], need_weights=False)[0])


def attention():
    torch.manual_seed(0)
    model, x = randomized(OverOthers().double()), torch.randn(60, 5, 18, dtype=torch.float64)
    return model, (x[:2],), [x]


def encoder():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 1), nn.Linear(8, 3))
    x = torch.randn(60, 5, 8, dtype=torch.float64)
    return randomized(model.double()), (x[:2],), [x]


@pytest.mark.parametrize("make_model", [gpt2, decoder, attention, encoder])
def test_every_kind_of_linear_map_has_its_place_in_the_order(make_model):
    model, example, batches = make_model()
    net = trace(model, example)

    def gap(values):
        pruned, lost = net.replace(values).to_model(), 0.0
        with torch.no_grad():
            for batch in batches:
                a, b = run(pruned, batch), run(model, batch)
                lost += float((getattr(a, "logits", a) - getattr(b, "logits", b)).square().sum())
        return lost

    whole = solve_in_order(net, model, "magnitude", asks(net, 1.0), batches)
    assert set(whole.solutions) == set(budgets.prunable_weights(net))
    assert gap(whole.refit.values) < 1e-9
    wanted = asks(net, 0.6)
    found = solve_in_order(net, model, "admm", wanted, batches)
    statistics = input_statistics(model, batches, list(wanted))
    alone = {
        name: solvers.solve(
            "admm",
            net.tensors[name].value,
            ask.density,
            ask.pattern,
            statistics=statistics[name],
            out_dim=net.tensors[name].output_dim,
        ).weight
        for name, ask in wanted.items()
    }
    assert 0 < gap(found.refit.values) < gap(alone)


@pytest.mark.parametrize("solver", ["low-rank", "sparse+low-rank"])
def test_factors_in_order(solver):
    model, net, x = deep()
    density = None if solver == "low-rank" else 0.3
    found = solve_in_order(net, model, solver, asks(net, density, rank=3), [x])
    for name, solution in found.solutions.items():
        assert solution.factors.rank == 3
        low = solution.factors.product()
        rest = solution.weight - low.to(solution.weight)
        assert rest[~solution.mask].abs().max() < 1e-6
        assert solution.mask.sum() == (0 if density is None else round(0.3 * rest.numel()))
        assert name in found.refit.errors
    assert "3 layers pruned in order" in found.status


def test_layers_that_are_called_several_times_have_no_order():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.again, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.last(self.again(self.again(x).relu()).relu())

    torch.manual_seed(0)
    model, x = Twice().double(), torch.randn(20, 6, dtype=torch.float64)
    net = trace(model, (x,))
    found = solve_in_order(net, model, "magnitude", asks(net, 0.5), [x])
    assert list(found.solutions) == ["last.weight"]
    assert found.refit.not_refitted == {"again.weight": "the forward calls it several times"}


def test_without_batches_it_is_refused():
    case = make("mlp")
    with pytest.raises(ValueError, match="at least one calibration batch"):
        solve_in_order(case.net, case.model, "magnitude", asks(case.net, 0.5), [])
