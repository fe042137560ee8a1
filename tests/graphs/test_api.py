"""The laws of a network: exact round trip, permutations, removal of dead units."""

from __future__ import annotations

import pytest
import torch

from graphs import trace
from graphs.axes.dims import unit_index
from graphs.build.rebuild import graph_model
from tests.oracles.networks.families import FAMILIES, build, run

NAMES = list(FAMILIES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_round_trip_is_bit_exact(name, dtype):
    model, inputs = build(name, dtype)
    back = trace(model, inputs).to_model()
    before, after = model.state_dict(), back.state_dict()
    assert list(before) == list(after)
    for key in before:
        assert before[key].dtype == after[key].dtype
        assert torch.equal(before[key], after[key]), key
    assert type(back) is type(model)
    assert torch.equal(run(model, inputs), run(back, inputs))


@pytest.mark.parametrize("name", NAMES)
def test_program_computes_the_model(name):
    model, inputs = build(name, torch.float64)
    program = graph_model(trace(model, inputs))
    torch.testing.assert_close(run(program, inputs), run(model, inputs), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_permuting_any_axis_leaves_the_function(name):
    model, inputs = build(name, torch.float64)
    net = trace(model, inputs)
    expected = run(graph_model(net, widen=True), inputs)
    free = [a for a in net.axes.values() if not a.frozen]
    assert free
    generator = torch.Generator().manual_seed(1)
    for axis in free:
        net = net.permute(axis.name, torch.randperm(axis.size, generator=generator))
        moved = run(graph_model(net, widen=True), inputs)
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-10, msg=axis.name)
    torch.testing.assert_close(
        run(net.to_model(), inputs), run(model, inputs), rtol=1e-5, atol=1e-5
    )


def dead(net, axis, units):
    """The network with the given units zero at every producer."""
    values = {}
    for name, tensor in net.tensors.items():
        value = tensor.value.clone()
        for i, dim in enumerate(tensor.dims):
            if tensor.produces[i] and tensor.role != "running_var":
                index = unit_index(dim, axis, net.axes)
                hit = torch.isin(index, units).nonzero().flatten()
                value.index_fill_(i, hit, 0)
        values[name] = value
    return net.replace(values)


@pytest.mark.parametrize("name", NAMES)
def test_removing_dead_units_changes_nothing(name):
    model, inputs = build(name, torch.float64)
    net = trace(model, inputs)
    exact = [a for a in net.axes.values() if a.exactness == "exact" and a.size > 1]
    for axis in exact:
        units = torch.arange(axis.size)[::2][: axis.size - 1]
        masked = dead(net, axis.name, units)
        small = masked.remove(axis.name, units)
        expected = run(graph_model(masked, widen=True), inputs)
        got = run(graph_model(small, widen=True), inputs)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-10, msg=axis.name)
        own = run(small.to_model(), inputs)
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5, msg=axis.name)
