"""The laws of a network: exact round trip, permutations, removal of dead units."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

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


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_has_values_of_its_own(name):
    net = trace(*build(name, torch.float64))
    copied = copy.deepcopy(net)
    assert all(torch.equal(copied.tensors[n].value, t.value) for n, t in net.tensors.items())
    assert copied.axes == net.axes
    for tensor in copied.tensors.values():
        tensor.value.zero_()
    assert any(bool(t.value.any()) for t in net.tensors.values())


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


class Stream(nn.Module):
    """A residual stream that may be turned, and a hidden layer that may be scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(3, 6), nn.RMSNorm(6)
        self.up, self.down, self.last = nn.Linear(6, 4), nn.Linear(4, 6), nn.RMSNorm(6)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        x = self.embed(x)
        return self.head(self.last(x + self.down(self.up(self.norm(x)).relu())))


VERBS = {
    "rotate": lambda net, given: net.rotate("embed.out", given),
    "rotate, axis": lambda net, given: net.rotate(given, torch.eye(6)),
    "rescale": lambda net, given: net.rescale("up.out", given),
    "rescale, axis": lambda net, given: net.rescale(given, torch.ones(4)),
    "rescale, gauge": lambda net, given: net.rescale("up.out", torch.ones(4), given),
    "permute": lambda net, given: net.permute("up.out", given),
    "permute, axis": lambda net, given: net.permute(given, [1, 0]),
    "remove": lambda net, given: net.remove("up.out", given),
    "remove, axis": lambda net, given: net.remove(given, [0]),
    "remove several": lambda net, given: net.remove({"up.out": given}),
    "fold_norms": lambda net, given: net.fold_norms(given),
    "untie": lambda net, given: net.untie(given),
    "symmetry": lambda net, given: net.symmetry(given),
    "drop": lambda net, given: net.drop(given),
    "drop several": lambda net, given: net.drop([given]),
    "replace": lambda net, given: net.replace(given),
    "replace one": lambda net, given: net.replace({"up.bias": given}),
    "to_model": lambda net, given: net.to_model(into=[given]),
    "to_pyg": lambda net, given: net.to_pyg(given),
    "to_networkx": lambda net, given: net.to_networkx(given),
    "from_pyg": lambda net, given: net.from_pyg(given, net),
    "from_pyg, like": lambda net, given: net.from_pyg(net.to_pyg(), given),
    "from_pyg, level": lambda net, given: net.from_pyg(net.to_pyg("layer"), net),
}


@pytest.fixture(scope="module")
def stream():
    return trace(Stream(), (torch.randn(2, 3),))


@pytest.mark.parametrize(
    "given",
    [None, 1.5, "x", [[1.0, 0.0]], {"x": 1}, object(), torch.eye(6) > 0, torch.zeros(6, 6)],
    ids=lambda given: type(given).__name__,
)
@pytest.mark.parametrize("verb", VERBS)
def test_what_a_verb_does_not_take_is_refused_in_words(stream, verb, given):
    with pytest.raises((KeyError, ValueError)) as caught:
        VERBS[verb](stream, given)
    place = caught.traceback[-1].path
    assert "graphs" in place.parts, f"it comes from {place}"
    said = ("expected", "got", "must", "no axis", "no block", "not a tensor")
    assert any(words in str(caught.value) for words in said)
