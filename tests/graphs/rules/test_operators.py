"""Every operator around the core: the laws hold, and what is free and what is not is declared."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs import trace
from graphs.build.rebuild import graph_model
from graphs.cost import count_macs, count_params
from graphs.rules import RULES
from graphs.rules.registry import operator_name
from metaprune import testing
from tests.oracles.networks import (  # noqa: F401  each registers its cases
    attention,
    convolutions,
    elementwise,
    layouts,
    norms,
    recurrent,
    spellings,
)
from tests.oracles.networks.cases import CASES
from tests.oracles.networks.families import FAMILIES
from tests.oracles.networks.families import build as build_family

# Said by torch once a process, on machines with oneDNN.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

NAMES = list(CASES)
OUTSIDE = re.compile(r"input |output of the model|vocabulary|it has a single unit")


def build(name):
    torch.manual_seed(0)
    return CASES[name].build()


def free(net):
    return [axis for axis in net.axes.values() if axis.frozen is None]


def outputs(model, inputs):
    model.eval()
    with torch.no_grad():
        found = model(*inputs)
    return [v for v in pytree.tree_leaves(found) if isinstance(v, torch.Tensor)]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_free_is_declared(name):
    case, net = CASES[name], trace(*build(name))
    assert {a.name: a.exactness for a in free(net)} == case.free
    frozen = {a.name: a.frozen for a in net.axes.values() if a.frozen is not None and a.size > 1}
    assert case.frozen.keys() <= frozen.keys()
    for axis, reason in frozen.items():
        declared = [case.frozen[axis]] if axis in case.frozen else case.frozen.values()
        assert any(re.match(why, reason) for why in (*declared, OUTSIDE)), f"{axis}: {reason}"


@pytest.mark.parametrize("name", NAMES)
def test_laws(name):
    model, inputs = build(name)
    testing.assert_round_trip(model, inputs)
    testing.assert_permutation_invariant(model, inputs)
    testing.assert_lossless(model, inputs)


@pytest.mark.parametrize("name", NAMES)
def test_dead_units_of_all_axes_go_at_once(name):
    model, inputs = build(name)
    inputs = pytree.tree_map(lambda v: v.double() if v.is_floating_point() else v, inputs)
    net = trace(model.double(), inputs)
    generator = torch.Generator().manual_seed(2)
    net = testing.lively(net, generator)
    units = {
        axis.name: torch.randperm(axis.size, generator=generator)[: (axis.size + 1) // 3]
        for axis in free(net)
        if axis.exactness == "exact"
    }
    masked = net
    for axis, gone in units.items():
        masked = testing.kill(masked, axis, gone)
    expected = outputs(graph_model(masked), inputs)
    small = masked.remove(units)
    for got in (outputs(graph_model(small), inputs), outputs(small.to_model(), inputs)):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_half_of_every_axis_goes_and_the_rest_trains(name):
    model, inputs = build(name)
    net = trace(model, inputs)
    small = net.remove({axis.name: range(axis.size // 2) for axis in free(net)})
    pruned = small.to_model()
    shapes = [v.shape for v in outputs(model, inputs)]
    assert [v.shape for v in outputs(pruned, inputs)] == shapes
    assert sum(p.numel() for p in pruned.parameters()) == count_params(small)
    assert count_params(small) == count_params(net, {a.name: a.size for a in small.axes.values()})
    if free(net):
        assert count_params(small) < count_params(net)
        assert count_macs(small) < count_macs(net)
    pruned.train()
    found = pytree.tree_leaves(pruned(*inputs))
    sum(v.square().mean() for v in found if isinstance(v, torch.Tensor)).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in pruned.parameters())


def test_channels_of_the_ways_in_which_others_go_wrong_are_free_or_frozen_with_the_reason():
    """Four layouts for which a tool that takes the unknown for elementwise is silently wrong."""
    assert "conv.out" in CASES["channels_last_flatten"].free
    assert "conv.out" in CASES["pad_channels_with_zeros"].free
    assert "grouped.out.channel" in CASES["channel_shuffle"].free
    assert CASES["softmax_over_channels"].frozen == {"conv.out": "softmax over units"}


class Branches(nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda v: v + 1, lambda v: v - 1, (x,))


class Loops(nn.Module):
    def forward(self, x):
        return torch.while_loop(lambda v: v.sum() < 100, lambda v: (v * v + 1,), (x,))


@pytest.mark.parametrize(("flow", "word"), [(Branches, "cond"), (Loops, "while_loop")])
def test_control_flow_in_the_graph_freezes_what_it_touches_and_says_where(flow, word):
    line = flow.forward.__code__.co_firstlineno + 1
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 5), flow())
    axes = trace(model, (torch.randn(2, 4),)).axes
    assert re.search(rf"{word} at .*test_operators\.py:{line}", axes["1.out"].frozen)
    assert axes["0.out"].frozen is None


def test_rules_are_for_operators_that_there_are():
    def exists(name):
        plain = name.partition(".")[0]
        spelled = (plain, f"{plain}_", f"__{plain}__")
        return any(hasattr(torch.ops.aten, word) for word in spelled)

    others = [name for name in RULES if not exists(name)]
    # torch 2.14 has no cholesky beside linalg_cholesky any more.
    assert set(others) <= {"grouped_mm", "transformers.grouped_mm_fallback", "cholesky"}


# Operators that no small model calls, and why.
NOT_CALLED = {
    **dict.fromkeys(("_grouped_mm", "grouped_mm"), "the experts of tests/architectures"),
    "transformers.grouped_mm_fallback": "the experts of tests/architectures",
    "bincount": "its shape depends on values, as those of experts do",
    "index_reduce": "torch warns that it is in beta",
    **dict.fromkeys(("cpu", "cuda"), "to where a model is already, nothing is called"),
    "conj": "torch calls it _conj",
    "cholesky": "torch warns of it; linalg_cholesky has the same rule",
    "matrix_H": "by spectral norms in training (tests/graphs/relate/test_training.py)",
    **dict.fromkeys(("lift_fresh", "_assert_tensor_metadata"), "torch.export takes them out"),
}


def called(net):
    """Registered names of the operators that a program calls."""
    for node in net.program.graph.nodes:
        if node.op == "call_function":
            name = operator_name(node.target)
            one = f"{name}.{getattr(node.target, '_overloadname', '')}"
            yield one if one in RULES else name


def test_every_operator_is_called_by_some_model():
    seen = {name for case in CASES for name in called(trace(*build(case)))}
    seen |= {name for family in FAMILIES for name in called(trace(*build_family(family)))}
    assert set(RULES) - seen == set(NOT_CALLED)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("spectral_norm_old", "deep.weight_orig"),
        ("spectral_norm_parametrised", "deep.parametrizations.weight.original"),
        ("low_rank_weight", "middle.weight"),
        ("standardised_weight", "conv.weight"),
    ],
)
def test_a_weight_that_is_scaled_or_shifted_before_use_is_a_weight(name, tensor):
    weight = trace(*build(name)).tensors[tensor]
    assert weight.role == "weight"
    assert weight.produces[:2] == (True, False)
