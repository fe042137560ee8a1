"""Curves of axes, against Schur complements for every width, and against the refit itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphs import trace
from graphs.axes.dims import atoms, kept_positions
from pruners.curves import Sides, axis_curves, measure_sides
from pruners.curves.axes import DAMPING, ORDERS
from pruners.recovery.refit import input_moments, refit
from pruners.units import base_scores
from tests.pruners.conftest import make
from tests.pruners.networks import Attention, mlp, randomized
from tests.pruners.recovery.test_refit import CONSUMERS, consumer


class Heads(Attention):
    """As many groups as heads, so that a head is a unit of its own."""

    def __init__(self) -> None:
        super().__init__(heads=3, groups=3, head_dim=2)


def subject(name):
    """A model, its network, and inputs."""
    if name in CONSUMERS:
        return consumer(name, batch=30)
    if name == "heads":
        torch.manual_seed(0)
        model = randomized(Heads().double())
        tokens = torch.randint(0, 11, (20, 6))
        return model, trace(model, (tokens[:2],)), tokens
    case = make(name)
    shape = case.inputs[0].shape
    if name == "attention":
        return case.model, case.net, torch.randint(0, 11, (20, *shape[1:]))
    return case.model, case.net, torch.randn(30, *shape[1:], dtype=torch.float64)


SUBJECTS = [*sorted(CONSUMERS), "heads", "attention", "cnn", "mlp"]


def measured(name):
    model, net, x = subject(name)
    weights = [n for n, t in net.tensors.items() if t.role == "weight" and t.input_dim is not None]
    sides = measure_sides(net, model, [x], weights)
    axes = [name for name, axis in net.axes.items() if axis.frozen is None]
    return net, sides, axes, base_scores(net)


def damped(hessian):
    """H with a share of every diagonal entry added; 1 where an input never varies."""
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    found = hessian + DAMPING * diagonal.diag_embed()
    return found + (diagonal <= 0).double().diag_embed()


def by_schur_complements(net, sides, axis, kept):
    """Σ over readers of ½ tr(G W_r S W_rᵀ), S of the columns that go given those that stay."""
    total = 0.0
    for name, one in sides.items():
        tensor = net.tensors[name]
        side = tensor.input_dim
        if axis not in atoms(tensor.dims[side]):
            continue
        channels = tensor.value.shape[side]
        positions = kept_positions(tensor.dims[side], {axis: kept}, net.axes)
        taps = one.weight.shape[2] // channels
        stays = torch.zeros(taps, channels, dtype=torch.bool)
        stays[:, positions] = True
        k, r = stays.flatten().nonzero().flatten(), (~stays.flatten()).nonzero().flatten()
        for weight, hessian, curvature in zip(
            one.weight, damped(one.hessian), one.curvature, strict=True
        ):
            dead = one.hessian[0].diagonal() <= 0
            gone = weight[:, r] * ~dead[r]
            schur = hessian[r][:, r]
            if len(k):
                schur = schur - hessian[r][:, k] @ torch.linalg.solve(
                    hessian[k][:, k], hessian[k][:, r]
                )
            total += torch.trace(curvature @ gone @ schur @ gone.T).item() / 2
    return total


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", SUBJECTS)
def test_a_curve_is_the_schur_complement_at_every_width(name, order):
    """Kernel taps, groups, concatenations (columns of no unit), heads × features, streams."""
    net, sides, axes, scores = measured(name)
    found = axis_curves(net, sides, axes, scores, order)
    assert found
    for axis, one in found.items():
        size = net.axes[axis].size
        assert one.curve.kept == tuple(range(1, size + 1))
        assert sorted(one.order.tolist()) == list(range(size))
        assert one.curve.losses[-1] == 0
        whole = by_schur_complements(net, sides, axis, torch.tensor([], dtype=torch.int64))
        for n in range(1, size + 1):
            kept = one.order[:n].sort().values
            exact = by_schur_complements(net, sides, axis, kept)
            assert one.curve.at(n) == pytest.approx(exact, rel=1e-8, abs=1e-12 * whole)


@pytest.mark.parametrize("name", sorted(set(CONSUMERS) - {"concatenated"}))
def test_with_an_identity_it_is_what_the_refit_leaves(name):
    """The sum over outputs of half the mean squared error."""
    model, net, x = consumer(name)
    one = measure_sides(net, model, [x], ["b.weight"])["b.weight"]
    one = replace(
        one, curvature=torch.eye(one.curvature.shape[1]).double().expand_as(one.curvature)
    )
    [axis] = [a for a, v in net.axes.items() if v.frozen is None]
    found = axis_curves(net, {"b.weight": one}, [axis], base_scores(net), "given")[axis]
    moments = input_moments(net, model, [x])
    energy = 2 * one.energy
    for n in range(1, net.axes[axis].size):
        kept = {axis: found.order[:n].sort().values}
        _, after = refit(net, kept, moments, 1e-9).errors["b.weight"]
        # The curve counts its damping as an error.
        assert 2 * found.curve.at(n) == pytest.approx(after * energy, rel=0.05, abs=3e-3 * energy)
        assert 2 * found.curve.at(n) >= after * energy - 1e-9 * energy


@pytest.mark.parametrize("name", SUBJECTS)
def test_given_scores_are_an_order_and_so_is_the_mean_of_both(name):
    net, sides, axes, scores = measured(name)
    given, loss, mixed = (axis_curves(net, sides, axes, scores, order) for order in
                          ("given", "loss", "mixed"))  # fmt: skip
    for axis, one in given.items():
        ranked = scores[axis].double()[one.order]
        assert all(a >= b for a, b in pairwise(ranked.tolist()))
        places = torch.empty(3, len(ranked))
        for i, found in enumerate((given, loss, mixed)):
            places[i, found[axis].order] = torch.arange(len(ranked)).float()
        mean = (places[0] + places[1])[mixed[axis].order]
        assert all(a <= b for a, b in pairwise(mean.tolist()))


def test_the_order_by_loss_starts_with_the_unit_that_costs_least():
    net, sides, axes, scores = measured("mlp")
    for axis, one in axis_curves(net, sides, axes, scores).items():
        size = net.axes[axis].size
        alone = [
            by_schur_complements(net, sides, axis, torch.tensor([v for v in range(size) if v != u]))
            for u in range(size)
        ]
        assert one.order[-1].item() == int(torch.tensor(alone).argmin())


def test_the_order_by_loss_loses_least_on_average():
    """Ten units or fewer: half of them by loss, against half of them by their norms."""
    ratios = []
    for seed in range(6):
        model, net, x = consumer("padded", seed)
        sides = measure_sides(net, model, [x], ["b.weight"])
        loss, given = (
            axis_curves(net, sides, ["a.out"], base_scores(net), order)["a.out"].curve.at(4)
            for order in ("loss", "given")
        )
        ratios.append(loss / given)
    assert max(ratios) <= 1.0
    assert sum(ratios) / len(ratios) < 0.9


def rescaled(factor, count=60):
    """A rectified network, the same with half of its units rescaled, and inputs."""
    model = randomized(mlp().double())
    model[3] = nn.ReLU()
    x = torch.randn(count, 6, dtype=torch.float64)
    net = trace(model, (x[:3],))
    factors = torch.ones(10).double()
    factors[::2] = factor
    values = {name: tensor.value.clone() for name, tensor in net.tensors.items()}
    values["0.weight"] *= factors[:, None]
    values["0.bias"] *= factors
    values["2.weight"] /= factors
    return net, net.replace(values), x


def relabelled(name, seed=3):
    """The same network twice, the units of one in another order, and which went where."""
    model, net, x = subject(name)
    generator = torch.Generator().manual_seed(seed)
    orders = {
        axis: torch.randperm(found.size, generator=generator)
        for axis, found in net.axes.items()
        if found.frozen is None
    }
    values = {}
    for key, tensor in net.tensors.items():
        value = tensor.value
        for i, dim in enumerate(tensor.dims):
            index = kept_positions(dim, orders, net.axes)
            value = value if index is None else value.index_select(i, index)
        values[key] = value
    return model, net, net.replace(values), orders, x


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", ["padded", "grouped", "concatenated", "heads", "cnn", "mlp"])
def test_relabelled_units_lose_the_same_in_their_own_order(name, order):
    model, net, other, orders, x = relabelled(name)
    weights = [n for n, t in net.tensors.items() if t.role == "weight" and t.input_dim is not None]
    axes = list(orders)
    one = axis_curves(net, measure_sides(net, model, [x], weights), axes, base_scores(net), order)
    two = axis_curves(
        other, measure_sides(other, other.to_model(), [x], weights), axes, base_scores(other), order
    )
    assert set(one) == set(two)
    for axis, found in one.items():
        moved = orders[axis][two[axis].order]
        # Units that cost nothing have no order among themselves.
        alive = 1 + sum(loss > 0 for loss in found.curve.losses)
        assert torch.equal(moved[:alive], found.order[:alive])
        assert two[axis].curve.losses == pytest.approx(found.curve.losses, rel=1e-6, abs=1e-12)


class Dead(nn.Module):
    """A third of its hidden units never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 9), nn.Linear(9, 4)
        randomized(self)
        with torch.no_grad():
            self.a.bias[:3] = -1e3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(F.relu(self.a(x)))


def test_dead_units_go_first_and_cost_nothing():
    """However large the weights that read them."""
    model = Dead().double().eval()
    with torch.no_grad():
        model.b.weight[:, :3] = 1e6
    x = torch.randn(40, 5, dtype=torch.float64)
    net = trace(model, (x[:3],))
    sides = measure_sides(net, model, [x], ["a.weight", "b.weight"])
    found = axis_curves(net, sides, ["a.out"], base_scores(net), "loss")["a.out"]
    assert set(found.order[-3:].tolist()) == {0, 1, 2}
    assert found.curve.losses[5:] == (0.0, 0.0, 0.0, 0.0)
    assert found.curve.losses[4] > 0


@pytest.mark.parametrize("factor", [1e-6, 0.25, 3.0, 1e6])
@pytest.mark.parametrize("order", ["loss", "given"])
def test_rescaled_units_lose_the_same_in_the_same_order(order, factor):
    """A rectified unit may be scaled where it is made and back where it is read."""
    net, other, x = rescaled(factor, 40)
    weights = ["0.weight", "2.weight", "4.weight"]
    scores = base_scores(net)
    one, two = (
        axis_curves(
            n, measure_sides(n, n.to_model(), [x], weights), ["0.out", "2.out"], scores, order
        )
        for n in (net, other)
    )
    for axis, found in one.items():
        assert torch.equal(found.order, two[axis].order)
        assert two[axis].curve.losses == pytest.approx(found.curve.losses, rel=1e-6, abs=1e-12)


def test_an_axis_that_nothing_measured_reads_has_no_curve():
    net, sides, axes, scores = measured("mlp")
    found = axis_curves(net, {"4.weight": sides["4.weight"]}, axes, scores)
    assert set(found) == {"2.out"}
    assert axis_curves(net, {}, axes, scores) == {}


def test_the_scale_of_the_curvature_scales_the_losses_alone():
    net, sides, axes, scores = measured("cnn")
    larger = {
        name: Sides(one.weight, one.hessian, 4 * one.curvature, one.samples)
        for name, one in sides.items()
    }
    for axis, one in axis_curves(net, sides, axes, scores).items():
        two = axis_curves(net, larger, axes, scores)[axis]
        assert torch.equal(two.order, one.order)
        assert two.curve.losses == pytest.approx([4 * loss for loss in one.curve.losses])


def test_an_unknown_order_is_refused():
    net, sides, axes, scores = measured("mlp")
    with pytest.raises(ValueError, match=r'unknown order "los" \(did you mean "loss"\?\).*mixed'):
        axis_curves(net, sides, axes, scores, "los")
