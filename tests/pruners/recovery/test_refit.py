"""Laws of the exact refit of what reads removed units."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphs import trace
from pruners.norms import norm_means
from pruners.recovery import compensate_bias, input_means
from pruners.recovery.refit import input_moments, refit
from pruners.recovery.regression import Regression, fit
from tests.pruners.conftest import make, removed
from tests.pruners.networks import randomized


def small_model(net, kept, values):
    return net.replace(values).remove(removed(net, kept)).to_model()


class Pair(nn.Module):
    """Something that makes units, something that reads them, and batch norms or none."""

    def __init__(self, first: nn.Module, second: nn.Module, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.a, self.b, self.norm = first, second, norm or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.b(F.relu(self.a(x))))


class Concatenated(nn.Module):
    """A consumer of a concatenation, as in DenseNet."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3, padding=1)
        self.c = nn.Conv2d(11, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.a(x))
        return self.c(torch.cat([x, F.relu(self.b(x))], 1))


IMAGES = (3, 7, 7)
CONSUMERS = {
    "linear": (lambda: Pair(nn.Linear(5, 8), nn.Linear(8, 4)), (5,)),
    "no bias": (lambda: Pair(nn.Linear(5, 8), nn.Linear(8, 4, bias=False)), (5,)),
    "padded": (lambda: Pair(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3, padding=1)), IMAGES),
    "strided": (lambda: Pair(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 3, 2, 1)), IMAGES),
    "dilated": (
        lambda: Pair(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 3, padding="same", dilation=2)),
        IMAGES,
    ),
    "grouped": (
        lambda: Pair(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 3, padding=1, groups=2)),
        IMAGES,
    ),
    "1d": (lambda: Pair(nn.Conv1d(3, 8, 3), nn.Conv1d(8, 4, 5, padding=2)), (3, 11)),
    "normed": (
        lambda: Pair(
            nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        ),
        IMAGES,
    ),
    "concatenated": (Concatenated, IMAGES),
}


def consumer(name, seed=0, batch=40):
    build, shape = CONSUMERS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = randomized(build().double(), seed)
        x = torch.randn(batch, *shape, dtype=torch.float64)
    return model, trace(model, (x[:3],)), x


def cut(net, share=0.5):
    """The first units of every axis that may be cut."""
    return {
        name: torch.arange(max(axis.minimum, int(axis.size * share)))
        for name, axis in net.axes.items()
        if axis.frozen is None
    }


def lost(model, small, x):
    return (model(x) - small(x)).square().sum().item()


@pytest.mark.parametrize("damping", [0.0, 1e-3, 10.0])
@pytest.mark.parametrize("name", sorted(set(CONSUMERS) - {"concatenated"}))
def test_never_worse_than_compensation_or_nothing(name, damping):
    """Whatever the damping, on the data it was fitted to, borders of images included."""
    model, net, x = consumer(name)
    kept = cut(net)
    assert kept
    found = refit(net, kept, input_moments(net, model, [x[:15], x[15:]]), damping)
    assert found.not_refitted == {}
    means = input_means(net, model, [x])
    plain = lost(model, small_model(net, kept, {}), x)
    folded = lost(model, small_model(net, kept, compensate_bias(net, kept, means).values), x)
    fitted = lost(model, small_model(net, kept, found.values), x)
    assert fitted <= min(plain, folded) * (1 + 1e-9)
    if damping < 1:
        assert fitted < 0.99 * min(plain, folded)
    before, after = found.errors["b.weight"]
    assert after <= before


@pytest.mark.parametrize("name", ["linear", "padded", "strided", "dilated", "grouped", "no bias"])
def test_equals_least_squares(name):
    """The closed form: numpy's own solution on inputs that the small model really sees."""
    model, net, x = consumer(name)
    kept = cut(net)
    found = refit(net, kept, input_moments(net, model, [x]), damping=0.0)
    small = small_model(net, kept, found.values)
    fitted = lost(model, small, x)
    inputs = F.relu(model.a(x))
    layer, few = model.b, small.b
    keep = next(iter(kept.values()))
    gaps = []
    groups = getattr(layer, "groups", 1)
    width = inputs.shape[1] // groups
    for g in range(groups):
        part = inputs[:, g * width : (g + 1) * width][:, keep]
        rows, outputs = patches(few, part), model(x).movedim(1, -1).flatten(0, -2).detach().numpy()
        share = outputs.shape[1] // groups
        outputs = outputs[:, g * share : (g + 1) * share]
        if layer.bias is not None:
            rows = np.concatenate([rows, np.ones((len(rows), 1))], 1)
        solution = np.linalg.lstsq(rows, outputs, rcond=None)[0]
        gaps.append(((rows @ solution - outputs) ** 2).sum())
    assert fitted == pytest.approx(sum(gaps), rel=1e-9)


def patches(layer, part):
    """Rows that the layer multiplies, by unfolding with torch."""
    if isinstance(layer, nn.Linear):
        return part.detach().numpy()
    padding = layer.padding if not isinstance(layer.padding, str) else (2, 2)
    unfolded = F.unfold(part, layer.kernel_size, layer.dilation, padding, layer.stride)
    return unfolded.transpose(1, 2).flatten(0, 1).detach().numpy()


@pytest.mark.parametrize("name", sorted(CONSUMERS))
def test_what_the_rest_explains_goes_without_loss(name):
    """Units that are copies of others: the statistics are singular, the outputs stay."""
    model, _, x = consumer(name)
    groups = getattr(model.b, "groups", 1)
    with torch.no_grad():
        for parameter in model.a.parameters():
            units = parameter.unflatten(0, (groups, -1))
            half = units.shape[1] // 2
            units[:, half:] = units[:, :half]
    net = trace(model, (x[:3],))
    axis = next(n for n, a in net.axes.items() if n.startswith("a.out") and a.frozen is None)
    kept = {axis: torch.arange(net.axes[axis].size // 2)}
    found = refit(net, kept, input_moments(net, model, [x]), damping=1e-9)
    small = small_model(net, kept, found.values)
    torch.testing.assert_close(small(x), model(x), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(small_model(net, kept, {})(x), model(x), atol=1e-2)


def test_nothing_removed_changes_nothing(case):
    moments = input_moments(case.net, case.model, [case.inputs])
    for kept in ({}, {a: torch.arange(x.size) for a, x in case.net.axes.items() if not x.frozen}):
        found = refit(case.net, kept, moments)
        assert found.values == {}
        assert found.errors == {}


def test_the_start_stays_where_it_is_the_best():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 50, 6, dtype=torch.float64, generator=generator)
    start = torch.randn(2, 3, 6, dtype=torch.float64, generator=generator)
    found = fit(Regression.of_samples(x, x @ start.mT + 1.5), start)
    torch.testing.assert_close(found.weight, start)
    torch.testing.assert_close(found.intercept, torch.full((2, 3), 1.5, dtype=torch.float64))


def test_sums_of_any_split_are_those_of_one_pass():
    generator = torch.Generator().manual_seed(1)
    x = 1e3 + torch.randn(2, 60, 4, dtype=torch.float64, generator=generator)
    y = torch.randn(2, 60, 3, dtype=torch.float64, generator=generator) - 50
    whole = Regression.of_samples(x, y)
    parts = Regression.of_samples(x[:, :7], y[:, :7])
    for piece in (slice(7, 8), slice(8, 60)):
        parts.merge_(Regression.of_samples(x[:, piece], y[:, piece]))
    for field in ("x_mean", "xx", "y_mean", "xy"):
        torch.testing.assert_close(getattr(parts, field), getattr(whole, field))
    assert parts.count.tolist() == [60, 60]


def test_singular_statistics_are_damped_and_that_is_said(dense_mlp):
    """Fewer samples than inputs: the system has no unique solution, the law still holds."""
    net, model = dense_mlp.net, dense_mlp.model
    x = torch.randn(3, 6, dtype=torch.float64)
    kept = {"0.out": torch.arange(8)}
    found = refit(net, kept, input_moments(net, model, [x]), damping=0.0)
    assert found.damped["2.weight"] > 0
    assert all(value.isfinite().all() for value in found.values.values())
    before, after = found.errors["2.weight"]
    assert after < 1e-6 < before


def test_dead_inputs_keep_their_weights():
    x = torch.randn(1, 30, 4, dtype=torch.float64)
    x[:, :, 2] = 0
    target = torch.randn(1, 30, 2, dtype=torch.float64)
    start = torch.ones(1, 2, 4, dtype=torch.float64)
    found = fit(Regression.of_samples(x, target), start)
    assert torch.equal(found.weight[:, :, 2], start[:, :, 2])
    assert found.weight.isfinite().all()


def test_query_heads_read_by_the_output_projection():
    """Heads × features, several query heads to a key head: whole heads go, the rest makes up."""
    case = make("attention")
    net, model = case.net, case.model
    tokens = torch.randint(0, 11, (30, 6), generator=torch.Generator().manual_seed(0))
    [axis] = [n for n, a in net.axes.items() if a.kind == "head" and not a.frozen][-1:]
    kept = {axis: torch.arange(1, net.axes[axis].size)}
    inputs = {}
    handle = model.o.register_forward_pre_hook(lambda m, a: inputs.update(x=a[0]))
    model(tokens)
    handle.remove()
    found = refit(net, kept, input_moments(net, model, [tokens]), damping=0.0)
    weight, bias = found.values["o.weight"], found.values["o.bias"]
    columns = weight.any(0)
    assert 0 < columns.sum() < columns.numel()
    rows = inputs["x"].flatten(0, 1).detach()
    design = torch.cat([rows[:, columns], rows.new_ones(len(rows), 1)], 1)
    target = model.o(rows).detach()
    best = (design @ torch.linalg.lstsq(design, target, driver="gelsd").solution - target).square()
    ours = (F.linear(rows, weight, bias) - target).square()
    assert ours.sum().item() == pytest.approx(best.sum().item(), rel=1e-6)


def test_the_mean_of_a_norm_takes_the_intercept():
    model, net, x = consumer("normed")
    assert norm_means(net) == {"b.weight": "norm.running_mean"}
    kept = cut(net)
    found = refit(net, kept, input_moments(net, model, [x]))
    assert set(found.values) == {"b.weight", "norm.running_mean"}
    small = small_model(net, kept, found.values)
    torch.testing.assert_close(small(x).mean((0, 2, 3)), model(x).mean((0, 2, 3)))


def test_bf16_weights_keep_their_dtype():
    model, net, x = consumer("linear")
    half = net.replace({n: t.value.bfloat16() for n, t in net.tensors.items()})
    kept = cut(net)
    moments = input_moments(net, model, [x])
    found, exact = refit(half, kept, moments), refit(net, kept, moments)
    for name, value in found.values.items():
        assert value.dtype == torch.bfloat16
        torch.testing.assert_close(value.double(), exact.values[name], rtol=0.05, atol=0.05)


def test_what_was_not_measured_is_said(dense_mlp):
    found = refit(dense_mlp.net, {"0.out": torch.tensor([0, 1])}, {})
    assert found.values == {}
    assert found.not_refitted == {"2.weight": "its inputs were not measured"}
    assert "1 not (1 its inputs were not measured)" in found.status
    with pytest.raises(ValueError, match="at least one calibration batch"):
        input_moments(dense_mlp.net, dense_mlp.model, [])
