"""The laws of networks and metanetworks, as assertions for tests of models, rules and metanetworks.

    assert_round_trip(model, inputs)              to_model(trace(model)) == model, bit for bit
    assert_permutation_invariant(model, inputs)   permuting any axis leaves the function
    assert_lossless(model, inputs)                removing dead units leaves the function
    assert_equivariant(metanet, model, inputs)    permuting an axis permutes what the metanet says

Functions are compared on a float64 copy with random weights of gain O(1): at a small
initialisation a wrong graph looks right. A wrong symmetry is found, a missing one is not:
`symmetries` measures how much a network declares. Every law also takes a `Network` in place of a
model, which is then used as it is, weights and dtype included.
"""

from __future__ import annotations

import copy
from math import lgamma, log
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs import Axis, Network, Tensor, trace
from graphs.dims import atoms, kept_positions, size, unit_index
from graphs.export import as_inputs, quiet_evaluation
from graphs.rebuild import graph_model

TOLERANCE = 1e-10


class Metanetwork(Protocol):
    """What `assert_equivariant` needs of a metanetwork; see `metanet.MetaNetwork`."""

    def __call__(self, net: Network, evidence: Any, target: float) -> Any:
        """The `metanet.Transformation` of a network."""


def assert_round_trip(model: nn.Module, example_inputs: Any, *, net: Network | None = None) -> None:
    """A module comes back from its network bit for bit: state, class, function, training flag.

    Args:
        model: any traceable module, in any dtype.
        example_inputs: tuple of arguments or dict of keywords.
        net: its network; traced when None.

    Raises:
        AssertionError: naming the first thing that differs.
    """
    back = (net or trace(model, example_inputs)).to_model()
    before, after = model.state_dict(), back.state_dict()
    assert list(before) == list(after), f"state-dict names differ: {set(before) ^ set(after)}"
    for name, value in before.items():
        same = value.dtype == after[name].dtype and torch.equal(value, after[name])
        assert same, f"{name} came back with other values, shape or dtype"
    assert type(back) is type(model), f"a {type(model).__name__} came back as {type(back).__name__}"
    assert back.training == model.training, "the training flag changed"
    for expected, got in zip(_run(model, example_inputs), _run(back, example_inputs), strict=True):
        assert torch.equal(expected, got), f"outputs differ by {_gap(expected, got)}"


def assert_permutation_invariant(
    subject: nn.Module | Network,
    example_inputs: Any,
    *,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> None:
    """Permuting the units of any axis that is not frozen leaves the function as it is.

    Args:
        subject: a model, or a network to take as it is.
        example_inputs: tuple of arguments or dict of keywords.
        seed: of weights and permutations.
        tolerance: largest difference of any output.

    Raises:
        AssertionError: naming the axis.
    """
    net, inputs, generator = _prepared(subject, example_inputs, seed)
    expected = _function(net, inputs)
    for axis in _free(net):
        order = torch.randperm(axis.size, generator=generator)
        _assert_same(
            net.permute(axis.name, order), inputs, expected, tolerance, f"permuting {axis.name}"
        )


def assert_lossless(
    subject: nn.Module | Network,
    example_inputs: Any,
    *,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> None:
    """Removing units that are zero at every producer leaves the function, in groups of class exact.

    Args:
        subject: a model, or a network to take as it is.
        example_inputs: tuple of arguments or dict of keywords.
        seed: of weights and of the choice of units.
        tolerance: largest difference of any output.

    Raises:
        AssertionError: naming the axis.
    """
    net, inputs, generator = _prepared(subject, example_inputs, seed)
    for axis in _free(net):
        if axis.exactness != "exact" or axis.size < 2:
            continue
        count = max(1, axis.size // 3)
        units = torch.randperm(axis.size, generator=generator)[:count].sort().values
        masked = kill(net, axis.name, units)
        expected = _function(masked, inputs)
        small = masked.remove(axis.name, units)
        _assert_same(small, inputs, expected, tolerance, f"removing dead units of {axis.name}")


def assert_equivariant(
    metanet: Metanetwork,
    subject: nn.Module | Network,
    example_inputs: Any,
    *,
    target: float = 0.5,
    seed: int = 0,
    tolerance: float = 1e-9,
) -> None:
    """What a metanetwork says of a permuted network is what it says of the network, permuted.

    Args:
        metanet: (network, evidence or None, target) → `metanet.Transformation`.
        subject: a model, or a network to take as it is.
        example_inputs: tuple of arguments or dict of keywords.
        target: share that stays, which the metanetwork is told.
        seed: of weights and permutations.
        tolerance: largest difference of any number.

    Raises:
        AssertionError: naming the axis and what differs.
    """
    net, _, generator = _prepared(subject, example_inputs, seed)
    with torch.no_grad():
        plain = metanet(net, None, target)
        for axis in _free(net):
            order = torch.randperm(axis.size, generator=generator)
            moved = metanet(net.permute(axis.name, order), None, target)
            kept = {axis.name: order}
            expected = {
                **{f"values of {n}": _permuted(net, n, v, kept) for n, v in plain.values.items()},
                **{
                    f"unit logits of {n}": v[order] if n == axis.name else v
                    for n, v in plain.unit_logits.items()
                },
                **{f"axis logit of {n}": v for n, v in plain.axis_logits.items()},
                **{f"tensor logit of {n}": v for n, v in plain.tensor_logits.items()},
            }
            got = {
                **{f"values of {n}": v for n, v in moved.values.items()},
                **{f"unit logits of {n}": v for n, v in moved.unit_logits.items()},
                **{f"axis logit of {n}": v for n, v in moved.axis_logits.items()},
                **{f"tensor logit of {n}": v for n, v in moved.tensor_logits.items()},
            }
            assert expected.keys() == got.keys(), f"other names after permuting {axis.name}"
            for what, value in expected.items():
                gap = _gap(value, got[what])
                assert gap <= tolerance, f"permuting {axis.name} changed {what} by {gap:.3g}"


def symmetries(net: Network) -> float:
    """log₁₀ of the number of permutations that a network declares to leave its function."""
    return sum(lgamma(axis.size + 1) / log(10) for axis in _free(net))


def kill(net: Network, axis: str, units: torch.Tensor) -> Network:
    """The network with units zero at every producer: weights' rows, biases, scales, statistics.

    Args:
        net: the network.
        axis: name of the axis.
        units: indices of the units to zero.
    """
    values = {}
    for name, tensor in net.tensors.items():
        value = tensor.value.clone()
        for i, dim in enumerate(tensor.dims):
            if tensor.produces[i] and tensor.role != "running_var" and axis in atoms(dim):
                index = unit_index(dim, axis, net.axes)
                value.index_fill_(i, torch.isin(index, units).nonzero().flatten(), 0)
        values[name] = value
    return net.replace(values)


def lively(net: Network, generator: torch.Generator) -> Network:
    """The network with random weights of gain O(1), so that every unit matters to the output."""
    return net.replace({name: _drawn(net, t, generator) for name, t in net.tensors.items()})


def _drawn(net: Network, tensor: Tensor, generator: torch.Generator) -> torch.Tensor:
    value = tensor.value
    if not value.is_floating_point() or tensor.role == "constant":
        return value
    normal = torch.randn(value.shape, generator=generator, dtype=torch.float64)
    uniform = torch.rand(value.shape, generator=generator, dtype=torch.float64) + 0.5
    if tensor.role == "weight":
        reads = [
            size(d, net.axes) for d, p in zip(tensor.dims, tensor.produces, strict=True) if not p
        ]
        fan = max(1, int(torch.tensor(reads).prod())) if reads else 1
        drawn = normal / fan**0.5
    elif tensor.role in ("scale", "running_var"):
        drawn = uniform
    else:
        drawn = normal if tensor.role == "embedding" else 0.3 * normal
    return drawn.to(value)


def _prepared(
    subject: nn.Module | Network, example_inputs: Any, seed: int
) -> tuple[Network, Any, torch.Generator]:
    """The network to test, inputs for it, and a generator."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(subject, Network):
        return subject, example_inputs, generator
    inputs = pytree.tree_map_only(
        torch.Tensor, lambda v: v.double() if v.is_floating_point() else v, example_inputs
    )
    net = trace(copy.deepcopy(subject).double(), inputs)
    return lively(net, generator), inputs, generator


def _free(net: Network) -> list[Axis]:
    return [axis for axis in net.axes.values() if axis.frozen is None]


def _permuted(
    net: Network, name: str, value: torch.Tensor, kept: dict[str, torch.Tensor]
) -> torch.Tensor:
    for i, dim in enumerate(net.tensors[name].dims):
        index = kept_positions(dim, kept, net.axes)
        if index is not None:
            value = value.index_select(i, index)
    return value


def _function(net: Network, inputs: Any) -> list[torch.Tensor]:
    return _run(graph_model(net, widen=True), inputs)


def _run(model: nn.Module, inputs: Any) -> list[torch.Tensor]:
    args, kwargs = as_inputs(inputs)
    with quiet_evaluation(model), torch.no_grad():
        found = model(*args, **kwargs)
    leaves = pytree.tree_leaves(dict(found) if hasattr(found, "items") else found)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _assert_same(
    net: Network, inputs: Any, expected: list[torch.Tensor], tolerance: float, what: str
) -> None:
    for before, after in zip(expected, _function(net, inputs), strict=True):
        assert before.shape == after.shape, f"{what} changed an output's shape"
        gap = _gap(before, after)
        assert gap <= tolerance, f"{what} changed the output by {gap:.3g}"


def _gap(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference; infinite where shapes differ or one side is not a number."""
    if a.shape != b.shape:
        return float("inf")
    if a.numel() == 0:
        return 0.0
    gap = (a.detach().double() - b.detach().double()).abs().max().item()
    return gap if gap == gap else float("inf")
