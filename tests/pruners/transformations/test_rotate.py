"""Rotations keep the function, do not depend on how features are laid out, and concentrate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.symmetries.members import random_member
from pruners.budgets import maskable
from pruners.transformations import Rotate
from pruners.transformations.base import prepared
from pruners.transformations.evidence import sides_of
from pruners.transformations.importance import Weight
from pruners.transformations.sites import sites
from tests.graphs.symmetries.networks import Stream, lively, tokens
from tests.pruners.networks import randomized
from tests.pruners.transformations.networks import (
    CASES,
    assert_same_function,
    case,
    outputs,
    request,
)

MODES = {
    "closed form": Rotate(descent=0),
    "without data": Rotate(descent=0, data=False),
    "descent": Rotate(descent=6),
}


def stream_of(net):
    return next(axis for axis, found in net.symmetries().items() if found.group == "rotations")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_the_function_stays(name, mode):
    asked = case(name)
    found = MODES[mode].find(asked)
    assert found.moves.turns
    model, inputs, expected = assert_same_function(name, asked.net, found.moves)
    # In single precision too, relative to the largest output.
    single = trace(model.float(), tuple_or_dict(inputs))
    found32 = outputs(found.moves.apply(single).to_model(), tuple_or_dict(inputs))
    assert (found32 - expected).abs().max() < 1e-5 * expected.abs().max()


def tuple_or_dict(inputs):
    if isinstance(inputs, dict):
        return inputs
    return tuple(x.float() if x.is_floating_point() else x for x in inputs)


@pytest.mark.parametrize("name", CASES)
def test_importance_in_turned_axes_is_that_of_the_turned_network(name):
    asked = case(name)
    net, _ = prepared(asked)
    names = [n for n, why in maskable(net).items() if why is None]
    draw = torch.Generator().manual_seed(1)
    turning = {a: s for a, s in net.symmetries().items() if s.ready and sites(net, s, names)}
    where = [site for s in turning.values() for site in sites(net, s, names)]
    members = {}
    for axis, symmetry in turning.items():
        shape = random_member(net, symmetry, draw).shape
        # Of groups of all invertible matrices rotations are used alone.
        members[axis] = (
            random_member(net, symmetry, draw)
            if symmetry.group == "rotations"
            else torch.linalg.qr(torch.randn(*shape, generator=draw, dtype=torch.float64))[0]
        )
    other = net
    for axis, matrix in members.items():
        other = other.rotate(axis, matrix)
    before, after = (sides_of(n, asked.batches, names) for n in (net, other))
    assert set(before) == set(after)
    assert before
    for weight, one in before.items():
        here = [site for site in where if site.weight == weight]
        found = Weight.of(one, here, torch.float64).importance(members)
        expected = Weight.of(after[weight], here, torch.float64).importance(
            {axis: torch.eye(m.shape[-1]).double().expand_as(m) for axis, m in members.items()}
        )
        rtol, atol = (1e-4, 1e-7) if name == "Llama" else (1e-6, 1e-12)
        torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("data", [True, False])
def test_another_basis_gives_the_same_network_up_to_signs(data):
    asked = case("root mean square")
    net, _ = prepared(asked)
    axis = stream_of(net)
    draw = torch.Generator().manual_seed(2)
    other = net.rotate(axis, random_member(net, net.symmetries()[axis], draw))
    found = [
        Rotate(descent=0, data=data).find(request(n, n.to_model(), asked.batches)).moves.apply(n)
        for n in (net, other)
    ]
    for name, tensor in found[0].tensors.items():
        torch.testing.assert_close(
            tensor.value.abs(), found[1].tensors[name].value.abs(), rtol=1e-6, atol=1e-8
        )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["root mean square", "layer norm"])
def test_another_order_of_features_gives_the_same_network(name, mode):
    asked = case(name)
    axis = stream_of(prepared(asked)[0])
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    other = asked.net.permute(axis, order)
    first = MODES[mode].find(asked).moves.apply(asked.net)
    second = MODES[mode].find(request(other, other.to_model(), asked.batches)).moves.apply(other)
    for weight, tensor in first.tensors.items():
        torch.testing.assert_close(second.tensors[weight].value, tensor.value, rtol=1e-4, atol=1e-5)


def test_rotations_keep_ones_where_a_mean_is_taken():
    asked = case("layer norm")
    found = Rotate(descent=6).find(asked).moves
    (matrix,) = found.tensors.values()
    torch.testing.assert_close(matrix.sum(1), torch.ones(6).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(6).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("zeros", ["unstructured", "2:4"])
def test_descent_makes_less_of_what_goes(zeros):
    asked = case("Llama", zeros)
    worth = [
        Rotate(descent=steps).find(asked).figures["single_weights"]["after"] for steps in (0, 60)
    ]
    assert worth[1] < 0.9 * worth[0]


def test_the_same_input_gives_the_same_matrices():
    found = [Rotate(descent=3).find(case("Llama")).moves for _ in range(2)]
    assert found[0] == found[1]
    assert found[0].digest


def test_a_tied_head_is_untied_and_its_cost_said():
    found = Rotate(descent=0).find(case("Llama"))
    assert found.moves.unties == ("lm_head.weight",)
    assert "Untied, so that norms could be folded: lm_head.weight, 384 parameters more." in (
        found.notes
    )


def test_what_cannot_be_turned_says_why():
    model = randomized(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    inputs = (torch.randn(5, 4),)
    found = Rotate(descent=5).find(request(trace(model, inputs), model, [inputs]))
    assert not found.moves
    (note,) = found.notes
    assert note.startswith("Nothing was turned: no axis has rotations (0.out: no matrix passes")


def test_a_blocked_stream_is_named():
    model = lively(Stream(on_the_stream=torch.relu))
    found = Rotate(descent=0).find(request(trace(model, tokens()), model, [tokens()]))
    assert not found.moves
    assert "relu" in found.notes[0]


def test_a_negative_number_of_steps_is_refused():
    with pytest.raises(ValueError, match=r"transform.rotate.descent must be at least 0 \(got -1\)"):
        Rotate(descent=-1)


def test_dead_features_do_no_harm():
    model, inputs = CASES["root mean square"]()
    with torch.no_grad():
        model.embed.weight.zero_()
        model.down.weight.zero_()
        model.down.bias.zero_()
    found = Rotate(descent=3).find(request(trace(model, inputs), model, [inputs]))
    assert all(matrix.isfinite().all() for matrix in found.moves.tensors.values())
