"""Components keep the function, are what curves of axes say, and lose less when units go."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.symmetries.members import random_member
from pruners import Target
from pruners.curves import axis_curves
from pruners.transformations import Auto, Permute, Rotate, UnitRequest
from pruners.transformations.base import prepared
from pruners.transformations.components import components, losses, ordered, readers
from pruners.transformations.evidence import sides_of
from pruners.transformations.sites import sites
from pruners.units.select import select
from tests.pruners.networks import randomized
from tests.pruners.transformations.networks import (
    CASES,
    assert_same_function,
    ids,
    llama,
)

WIDE = [name for name in CASES if name != "attention"]
"""Networks with an axis that turns and may be cut: features of heads stay."""

MODES = {"closed form": Rotate(descent=0), "descent": Rotate(descent=6)}


def asked_of(net, model, batches=(), share=0.7) -> UnitRequest:
    target = Target.parse({"macs": f"{share:.0%}"}).in_amounts(net)
    return UnitRequest(net, model, list(batches), target, 1, 1, select)


def case(name: str, *, data: bool = True) -> UnitRequest:
    model, inputs = CASES[name]()
    return asked_of(trace(model, inputs), model, [inputs] if data else ())


def read_of(asked):
    """The prepared network, its symmetries that turn, and what reads each axis."""
    net, _ = prepared(asked)
    measured = sides_of(net, asked.batches, asked.weights(net))
    turning = {
        axis: one
        for axis, one in net.symmetries().items()
        if one.ready and asked.concerns(net, one) and sites(net, one, measured)
    }
    places = [site for one in turning.values() for site in sites(net, one, measured)]
    return net, measured, turning, readers(measured, places)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", WIDE)
def test_the_function_stays(name, mode):
    asked = case(name)
    found = MODES[mode].find(asked)
    assert found.moves.turns
    assert_same_function(name, asked.net, found.moves)


@pytest.mark.parametrize("name", WIDE)
def test_losses_in_turned_axes_are_the_curves_of_the_turned_network(name):
    asked = case(name)
    net, _, turning, read = read_of(asked)
    draw = torch.Generator().manual_seed(1)
    members = {
        axis: random_member(net, one, draw)
        if one.group == "rotations"
        else torch.linalg.qr(random_member(net, one, draw))[0]
        for axis, one in turning.items()
    }
    other = net
    for axis, matrix in members.items():
        other = other.rotate(axis, matrix)
    measured = sides_of(other, asked.batches, asked.weights(other))
    falling = {axis: -torch.arange(float(net.axes[axis].size)) for axis in turning}
    curves = axis_curves(other, measured, turning, falling, "given")
    for axis in turning:
        found = losses(read[axis], members)[1:]
        expected = torch.tensor(curves[axis].curve.losses, dtype=torch.float64)
        assert (found - expected).abs().max() < 1e-3 * expected.max()


@pytest.mark.parametrize("name", WIDE)
def test_the_last_components_lose_less_than_the_cheapest_features(name):
    asked = case(name)
    net, measured, turning, read = read_of(asked)
    flat = {axis: torch.zeros(net.axes[axis].size) for axis in turning}
    curves = axis_curves(net, measured, turning, flat)
    start = {
        axis: components(
            read[axis],
            (net.axes[axis].size,) * 2 if one.per is None else (net.axes[one.per].size,)
            + (net.axes[axis].size,) * 2,
            ones=one.keeps_ones,
        )
        for axis, one in turning.items()
    }  # fmt: skip
    ones = frozenset(axis for axis, one in turning.items() if one.keeps_ones)
    found = ordered(read, start, 40, ones)
    for axis in turning:
        given = torch.tensor([*curves[axis].curve.losses], dtype=torch.float64)
        first, after = (losses(read[axis], each)[1:] for each in (start, found))
        half = len(first) // 2
        assert after[half - 1 : -1].sum() <= 1.001 * first[half - 1 : -1].sum()
        assert after[half - 1 : -1].sum() <= 1.001 * given[half - 1 : -1].sum()


def test_weights_that_read_the_same_inputs_are_taken_together():
    _, _, _, read = read_of(case("Llama"))
    assert [[reader.weights for reader in own] for own in read.values()] == [[3, 2, 3, 2, 1]]


def test_another_basis_gives_the_same_network_up_to_signs():
    asked = case("root mean square")
    net, _ = prepared(asked)
    (axis,) = (a for a, one in net.symmetries().items() if one.group == "rotations")
    draw = torch.Generator().manual_seed(2)
    other = net.rotate(axis, random_member(net, net.symmetries()[axis], draw))
    found = [
        Rotate(descent=0).find(asked_of(n, n.to_model(), asked.batches)).moves.apply(n)
        for n in (net, other)
    ]
    for name, tensor in found[0].tensors.items():
        torch.testing.assert_close(
            tensor.value.abs(), found[1].tensors[name].value.abs(), rtol=1e-5, atol=1e-7
        )


def test_components_keep_ones_where_a_mean_is_taken():
    found = Rotate(descent=6).find(case("layer norm")).moves
    (matrix,) = found.tensors.values()
    torch.testing.assert_close(matrix.sum(1), torch.ones(6).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(6).double(), rtol=0, atol=1e-12)


def test_axes_that_are_not_cut_are_not_turned():
    assert not Rotate(descent=0).find(case("attention")).moves
    found = Rotate(descent=0).find(case("Llama"))
    (axis,) = found.moves.turns
    net = case("Llama").net
    assert net.axes[axis].kind == "feature"
    assert found.notes[0].startswith(f"Turned: {axis} (16 features); keeping 75% of these ")
    assert found.figures["features"]["after"] < found.figures["features"]["before"]


def test_the_same_input_gives_the_same_matrices():
    found = [Rotate(descent=3).find(case("Llama")).moves for _ in range(2)]
    assert found[0] == found[1]


def test_without_calibration_nothing_is_turned():
    for found in (Rotate().find(case("Llama", data=False)), Auto().find(case("Llama", data=False))):
        assert not found.moves
        assert "calibration" in found.notes[0]


def test_an_order_is_no_help():
    found = Permute().find(case("Llama"))
    assert not found.moves
    assert found.notes == ("Nothing was reordered: whole units go, wherever they stand.",)


def test_the_best_of_what_is_tried_is_taken():
    model = llama()
    batches = [ids(12, seed) for seed in range(4)]
    found = Auto(descent=4).find(asked_of(trace(model, ids()), model, batches))
    tried = found.figures["tried"]
    assert list(tried) == ["none", "rotate"]
    assert bool(found.moves.turns) == (tried["rotate"] < tried["none"])


def test_what_cannot_be_turned_says_why():
    model = randomized(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    inputs = (torch.randn(5, 4),)
    found = Rotate(descent=5).find(asked_of(trace(model, inputs), model, [inputs]))
    assert not found.moves
    assert found.notes[0].startswith("Nothing was turned: no axis has rotations")


def test_dead_features_do_no_harm():
    model, inputs = CASES["root mean square"]()
    with torch.no_grad():
        model.embed.weight.zero_()
        model.down.weight.zero_()
        model.down.bias.zero_()
    found = Rotate(descent=3).find(asked_of(trace(model, inputs), model, [inputs]))
    assert all(matrix.isfinite().all() for matrix in found.moves.tensors.values())
