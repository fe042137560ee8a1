"""Recovery with both sides of the error: methods "order" and "layer", their sides and rounds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pruners.recovery.methods  # noqa: F401 (registers recovery methods)
from graphs import trace
from pruners import Plan, budgets, solvers
from pruners.recovery.base import Pruning, methods
from pruners.recovery.sides import output_sides
from pruners.recovery.solve_in_order import Ask, solve_in_order
from pruners.solvers import MaskPattern
from pruners.statistics import input_statistics
from tests.pruners.curves.test_sides import Blocked
from tests.pruners.networks import randomized
from tests.pruners.recovery.test_solve_in_order import deep

SOLVER = "admm"


def pruning(model, net, x, density=0.4, solver=SOLVER, pattern="unstructured"):
    zeros = MaskPattern.parse(pattern)
    asks = {
        name: Ask(None if zeros.m else density, zeros) for name in budgets.prunable_weights(net)
    }
    plan = Plan(
        pattern=pattern, solver=solver, budget="uniform", asked={}, achieved={},
        density=dict.fromkeys(asks, density),
    )  # fmt: skip
    half = len(x) // 2
    return Pruning(
        plan=plan, dense=net, base=net, teacher=model, example_inputs=(x[:2],),
        batches=[x[:half], x[half:]], asks=asks,
    )  # fmt: skip


def recovered(method, under_way):
    [found] = methods([method])
    found.recover(under_way)
    return under_way


def confident(seed=0):
    """A classifier whose outputs matter unequally, and inputs seen and fresh."""
    torch.manual_seed(seed)
    layers = [nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 8)]
    model = randomized(nn.Sequential(*layers).double(), seed)
    with torch.no_grad():
        model[4].weight *= torch.linspace(-2, 2, 24).exp()
    x = torch.randn(600, 12, dtype=torch.float64)
    return model, trace(model, (x[:3],)), x[:400], x[400:]


def divergence(under_way, x):
    with torch.no_grad():
        dense = under_way.teacher(x).log_softmax(-1)
        found = under_way.dense.replace(under_way.values).to_model()(x).log_softmax(-1)
    return (dense.exp() * (dense - found)).sum(-1).mean().item()


# One side


def test_order_with_one_side_is_solving_in_order():
    model, net, x = deep()
    found = recovered({"order": {"sides": 1}}, pruning(model, net, x))
    plain = solve_in_order(net, model, SOLVER, found.asks, found.batches)
    for name, solution in plain.solutions.items():
        assert torch.equal(found.solutions[name].weight, solution.weight)
    assert all(torch.equal(found.values[n], value) for n, value in plain.refit.values.items())
    again = recovered({"order": {"sides": 1, "rounds": 5}}, pruning(model, net, x))
    assert all(torch.equal(again.values[n], value) for n, value in found.values.items())


def test_layer_with_one_side_is_solving_every_layer():
    model, net, x = deep()
    found = recovered({"layer": {"sides": 1}}, pruning(model, net, x))
    statistics = input_statistics(model, found.batches, found.asks)
    for name in found.asks:
        alone = solvers.solve(SOLVER, net.tensors[name].value, 0.4, statistics=statistics[name])
        assert torch.equal(found.solutions[name].weight, alone.weight)


# Two


def test_layer_with_two_sides_hands_the_curvature_of_the_dense_network_to_solvers():
    model, net, x, _ = confident()
    found = recovered("layer", pruning(model, net, x))
    statistics = input_statistics(
        model, found.batches, found.asks, ("hessian", "norms", "curvature")
    )
    for name in found.asks:
        alone = solvers.solve(SOLVER, net.tensors[name].value, 0.4, statistics=statistics[name])
        assert torch.equal(found.solutions[name].weight, alone.weight)
    assert found.notes == ["The kept weights were fitted to the outputs of the dense layers."]


def test_every_round_solves_the_dense_weights_with_the_curvature_of_what_the_last_one_left():
    model, net, x, _ = confident()
    found = recovered({"order": {"rounds": 3}}, pruning(model, net, x))
    seen, batches, asks = model, found.batches, found.asks
    for _ in range(3):
        curved = input_statistics(seen, batches, asks, ("curvature",))
        given = {name: {"curvature": one["curvature"]} for name, one in curved.items()}
        step = solve_in_order(net, model, SOLVER, asks, batches, given)
        seen = net.replace(step.refit.values).to_model()
    for name, solution in step.solutions.items():
        assert torch.equal(found.solutions[name].weight, solution.weight)
    one, two = (
        recovered({"order": {"rounds": n}}, pruning(model, net, x)) for n in (1, 2)
    )  # fmt: skip
    assert any(not torch.equal(one.values[n], two.values[n]) for n in one.asks)
    default = recovered("order", pruning(model, net, x))
    assert all(torch.equal(default.values[n], two.values[n]) for n in two.values)


@pytest.mark.parametrize(
    ("method", "pattern"), [("order", "unstructured"), ("order", "2:4"), ("layer", "row")]
)
def test_predictions_stay_nearer_than_with_one_side(method, pattern):
    """On examples that nothing was fitted to, on average over networks."""
    ratios = []
    for seed in range(4):
        model, net, x, fresh = confident(seed)
        two, one = (
            divergence(
                recovered({method: {"sides": n}}, pruning(model, net, x, pattern=pattern)), fresh
            )
            for n in (2, 1)
        )
        ratios.append(two / one)
    assert max(ratios) < 1.2
    assert sum(ratios) / len(ratios) < 0.9


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("method", ["order", "layer"])
def test_masks_and_shapes_are_as_asked_and_the_same_again(method, sides):
    model, net, x, _ = confident()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one, two = (recovered({method: {"sides": sides}}, pruning(model, net, x)) for _ in range(2))
    for name, solution in one.solutions.items():
        value = net.tensors[name].value
        assert solution.mask.sum() == round(0.4 * value.numel())
        assert not solution.weight[~solution.mask].any()
        assert torch.equal(solution.weight, one.values[name])
        assert torch.equal(solution.weight, two.values[name])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("method", ["order", "layer"])
def test_solvers_that_read_gradients_of_weights_get_them_too(method):
    model, net, x, _ = confident()
    found = recovered(method, pruning(model, net, x, solver="gradient-aware"))
    assert set(found.solutions) == set(found.asks)
    assert all("on both sides" in one.status for one in found.solutions.values())


def test_low_rank_has_both_sides_too():
    model, net, x, fresh = confident()
    lost = {}
    for sides in (1, 2):
        under_way = pruning(model, net, x, solver="low-rank")
        none = MaskPattern.parse("unstructured")
        under_way.asks = {name: Ask(None, none, 4) for name in under_way.asks}
        found = recovered({"order": {"sides": sides}}, under_way)
        assert {one.factors.rank for one in found.solutions.values()} == {4}
        lost[sides] = divergence(found, fresh)
    assert lost[2] < lost[1]


# Where gradients do not arrive


@pytest.mark.parametrize("method", ["order", "layer"])
def test_weights_that_no_gradient_reaches_are_solved_for_their_own_outputs(method):
    model = randomized(Blocked().double())
    x = torch.randn(80, 6, dtype=torch.float64)
    net = trace(model, (x[:3],))
    found = recovered(method, pruning(model, net, x))
    said = (
        "Solved for their own outputs: 1 weight (a.weight), because no gradient reaches the outputs"
    )
    assert sum(note.startswith(said) for note in found.notes) == 1
    one = recovered({method: {"sides": 1}}, pruning(model, net, x))
    assert torch.equal(found.values["a.weight"], one.values["a.weight"])
    assert not torch.equal(found.values["b.weight"], one.values["b.weight"])


@pytest.mark.parametrize("how", ["scores", "labels"])
@pytest.mark.parametrize("method", ["order", "layer"])
def test_where_all_gradients_are_blocked_there_is_one_side_and_that_is_said_once(method, how):
    class Deaf(Blocked):
        def forward(self, x):
            with torch.no_grad():
                found = super().forward(x)
            return found.argmax(-1) if how == "labels" else found

    model = randomized(Deaf().double())
    x = torch.randn(80, 6, dtype=torch.float64)
    net = trace(model, (x[:3],))
    found = recovered(method, pruning(model, net, x))
    one = recovered({method: {"sides": 1}}, pruning(model, net, x))
    assert all(torch.equal(found.values[name], value) for name, value in one.values.items())
    said = [note for note in found.notes if note.startswith("Solved for the layers' own outputs: ")]
    assert len(said) == 1
    assert ("smoothly" if how == "scores" else "scores") in said[0]


def test_curvature_is_measured_of_the_module_that_is_given():
    model, net, x, _ = confident()
    under_way = pruning(model, net, x)
    other = net.replace({"4.weight": 2 * net.tensors["4.weight"].value}).to_model()
    names = list(under_way.asks)
    here, there = (output_sides(under_way, module, names) for module in (model, other))
    assert list(here) == list(there) == names
    assert all(set(one) == {"curvature"} for one in here.values())
    assert (there["0.weight"]["curvature"] != here["0.weight"]["curvature"]).any()
    assert under_way.notes == []


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ({"order": {"sides": 3}}, r"recovery.order.sides is 1, .* or 2, .*\(got 3\)"),
        ({"layer": {"sides": 0}}, r"recovery.layer.sides is 1, .*\(got 0\)"),
        ({"order": {"rounds": 0}}, r"recovery.order.rounds must be at least 1 \(got 0\)"),
        ({"layer": {"rounds": 2}}, 'recovery.layer: unknown option "rounds"'),
        ({"order": {"side": 1}}, 'unknown option "side" .did you mean "sides"'),
    ],
)
def test_options_that_make_no_sense_are_refused(method, words):
    with pytest.raises(ValueError, match=words):
        methods([method])
