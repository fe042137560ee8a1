"""The certificate of one architecture: its network, the laws it must obey, and what was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs import Network, trace
from graphs.axes.dims import Dim, atoms, unit_index
from graphs.build.rebuild import graph_model
from graphs.calls.export import attribute
from graphs.calls.running import as_inputs, quiet_evaluation
from graphs.cost import count_macs, count_params
from metaprune import testing
from pruners.targets import SPARED
from tests.architectures.registry import ARCHITECTURES, build


@dataclass
class Subject:
    """An architecture as built, traced once for all laws.

    Args:
        name: of its entry.
        model: the module, in float64.
        inputs: its example inputs.
        net: its network.
        dtype: of both.
    """

    name: str
    model: nn.Module
    inputs: Any
    net: Network
    dtype: torch.dtype

    @property
    def exact(self) -> float:
        """Largest difference of two outputs of the same function, relative to their scale."""
        return 1e-10 if self.dtype is torch.float64 else 2e-4


def subject(name: str) -> Subject:
    """Build and trace an entry of the register."""
    model, inputs = build(name)
    return Subject(name, model, inputs, trace(model, inputs), ARCHITECTURES[name].dtype)


def outputs(model: nn.Module, inputs: Any) -> list[torch.Tensor]:
    """All tensors that a model returns, in order."""
    args, kwargs = as_inputs(inputs)
    with quiet_evaluation(model), torch.no_grad():
        found = model(*args, **kwargs)
    leaves = pytree.tree_leaves(dict(found) if hasattr(found, "items") else found)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def assert_close(
    got: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float, what: str
) -> None:
    """Outputs are the same up to `tolerance`, relative to their own scale.

    Raises:
        AssertionError: saying what differs and by how much.
    """
    assert len(got) == len(expected), f"{what}: {len(got)} outputs instead of {len(expected)}"
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape, f"{what}: shape {tuple(a.shape)} instead of {tuple(b.shape)}"
        if a.numel() == 0:
            continue
        if not a.is_floating_point():
            assert torch.equal(a, b), f"{what}: other integers"
            continue
        same = a.isfinite() == b.isfinite()
        assert bool(same.all()), f"{what}: not finite at {int((~same).sum())} places"
        finite = b.isfinite()
        scale = max(1.0, float(b[finite].abs().max())) if bool(finite.any()) else 1.0
        gap = float((a - b)[finite].abs().max()) / scale if bool(finite.any()) else 0.0
        assert gap <= tolerance, f"{what}: outputs differ by {gap:.3g}"


def third(net: Network) -> dict[str, torch.Tensor]:
    """A random third of the units of every axis that is not frozen, at least one unit each."""
    generator = torch.Generator().manual_seed(1)
    found = {}
    for axis in net.axes.values():
        count = min(max(1, axis.size // 3), axis.size - axis.minimum)
        if axis.frozen is None and count > 0:
            found[axis.name] = torch.randperm(axis.size, generator=generator)[:count]
    return found


def offered(net: Network) -> dict[str, torch.Tensor]:
    """As `third`, of the axes that `metaprune.prune` takes from: never features inside a head."""
    return {name: u for name, u in third(net).items() if net.axes[name].kind not in SPARED}


def certified(s: Subject) -> testing.Certificate:
    """The public laws: round trip, permutation, scale, and removal by class of exactness."""
    found = testing.certify(s.model, s.inputs, net=s.net)
    found.require()
    return found


def program(s: Subject) -> None:
    """The traced program computes what the module computes."""
    assert_close(
        outputs(graph_model(s.net), s.inputs), outputs(s.model, s.inputs), s.exact, "the program"
    )


def reordered(s: Subject) -> None:
    """A module with all its units in another order computes what its program does then.

    Nothing is left in it from the order before.
    """
    generator = torch.Generator().manual_seed(3)
    net = s.net
    for axis in s.net.axes.values():
        if axis.frozen is None:
            net = net.permute(axis.name, torch.randperm(axis.size, generator=generator))
    assert_close(
        outputs(net.to_model(), s.inputs),
        outputs(graph_model(net), s.inputs),
        max(1e-8, s.exact),
        "the module with reordered units",
    )


def removal(s: Subject) -> nn.Module:
    """A third of what `metaprune.prune` takes from goes; the result runs, as the program says.

    Returns:
        the module that `metaprune.prune` would give.
    """
    return _removed(s, offered(s.net))


def every_axis(s: Subject) -> None:
    """The same with all axes, features inside heads too."""
    if third(s.net).keys() != offered(s.net).keys():
        _removed(s, third(s.net))


def _removed(s: Subject, units: dict[str, torch.Tensor]) -> nn.Module:
    dense = outputs(s.model, s.inputs)
    small = s.net.remove(units)
    pruned = small.to_model()
    got = outputs(pruned, s.inputs)
    assert [v.shape for v in got] == [v.shape for v in dense], "an output has another shape"
    for before, after in zip(dense, got, strict=True):
        if before.is_floating_point() and bool(before.isfinite().all()):
            assert bool(after.isfinite().all()), "an output is not finite"
    assert_close(
        got, outputs(graph_model(small), s.inputs), max(1e-8, s.exact), "the pruned module"
    )
    for name, value in pruned.state_dict(keep_vars=True).items():
        expected = small.tensors[s.net.source.aliases[name]].value.shape
        assert value.shape == expected, f"{name} has shape {tuple(value.shape)}"
    return pruned


def other_weights(s: Subject) -> None:
    """What `to_model` built from small weights is right for any: a wrong constant cannot hide.

    With the small weights of a fresh network every softmax is flat, so a wrong scale in the forward
    of the module's own class would go unseen.
    """
    faint = {
        name: 0.02 * t.value
        for name, t in s.net.tensors.items()
        if t.role == "weight" and t.value.is_floating_point()
    }
    small = s.net.replace(faint).remove(offered(s.net))
    pruned = small.to_model()
    live = testing.lively(small, torch.Generator().manual_seed(2))
    with torch.no_grad():
        for alias, name in s.net.source.aliases.items():
            attribute(pruned, alias).copy_(live.tensors[name].value)
    expected = outputs(graph_model(live), s.inputs)
    assert_close(
        outputs(pruned, s.inputs),
        expected,
        max(1e-8, s.exact),
        "the pruned module, with other weights",
    )


LAWS: dict[str, Callable[[Subject], Any]] = {
    "certificate": certified,
    "program": program,
    "reordered": reordered,
    "removal": removal,
    "removal, every axis": every_axis,
    "other weights": other_weights,
}


def removable(net: Network) -> float:
    """Share of the parameters' entries that lie on at least one axis that is not frozen."""
    free = {axis.name for axis in net.axes.values() if axis.frozen is None}
    total = kept = 0.0
    for name in net.source.parameters:
        tensor = net.tensors[name]
        total += tensor.value.numel()
        kept += tensor.value.numel() * prod(_frozen_share(d, free, net) for d in tensor.dims)
    return 1 - kept / total if total else 0.0


def _frozen_share(dim: Dim, free: set[str], net: Network) -> float:
    hit: Any = torch.zeros(())
    for axis in atoms(dim):
        if axis in free:
            hit = hit + (unit_index(dim, axis, net.axes) >= 0)
    return 1.0 - float((hit > 0).double().mean())


def facts(s: Subject) -> dict[str, Any]:
    """What the table says of an architecture; plain JSON values."""
    net = s.net
    axes = list(net.axes.values())
    free = [axis for axis in axes if axis.frozen is None]
    small = {n: net.axes[n].size - len(units) for n, units in offered(net).items()}
    of_parameters = {
        a for name in net.source.parameters for d in net.tensors[name].dims for a in atoms(d)
    }
    return {
        "params": count_params(net),
        "axes": len(axes),
        "free": len(free),
        "removable": removable(net),
        "exactness": dict(Counter(axis.exactness for axis in free)),
        "kinds": dict(Counter(axis.kind for axis in free)),
        "macs": count_macs(net, small) / max(1, count_macs(net)),
        "params_left": count_params(net, small) / max(1, count_params(net)),
        "symmetries": testing.symmetries(net),
        "frozen": {
            axis.name: [axis.size, axis.frozen]
            for axis in axes
            if axis.frozen and axis.size > 1 and axis.name in of_parameters
        },
    }
