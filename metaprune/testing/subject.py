"""What laws are tested on: a network in float64 with weights of gain O(1), and its function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from graphs import Axis, Network, trace
from graphs.build.rebuild import graph_model
from graphs.calls.running import as_inputs, outputs
from metaprune.testing.alterations import WIDE, lively, raised, widened

Outputs = list[torch.Tensor]


@dataclass
class Subject:
    """A network under test.

    Args:
        net: its axes and tensors; the values are what is tested.
        inputs: as (args, kwargs), in the dtype of the test.
        generator: for permutations, scales and the choice of units.
        wide: whether everything is computed in float64, whatever dtype the forward asks for.
    """

    net: Network
    inputs: tuple[tuple[Any, ...], dict[str, Any]]
    generator: torch.Generator
    wide: bool

    def function(self, net: Network) -> Outputs:
        """The outputs of a network of any shape.

        Raises:
            AssertionError: its program does not run.
        """
        return self.run(self.program(net))

    def program(self, net: Network) -> nn.Module:
        """The traced program over a network's tensors, in the dtype of the test."""
        module: Any = graph_model(net, widen=self.wide)
        if not self.wide:
            return module
        for node in module.graph.nodes:
            node.args = _with_wide_dtypes(node.args)
            node.kwargs = _with_wide_dtypes(node.kwargs)
        for name in net.program.constants:
            if name in module._buffers:
                module._buffers[name] = widened(module._buffers[name])
        module.recompile()
        return module

    def run(self, module: nn.Module) -> Outputs:
        """The tensors that a program returns; `AssertionError` where it does not run."""
        found = outputs(module, self.inputs)
        if isinstance(found, Exception):
            raise AssertionError(
                f"the program does not run: {type(found).__name__}: {found}"
            ) from found
        return found

    def same_shape(self) -> Callable[[Network], Outputs]:
        """The function of networks of the original shapes: one program, other values."""
        module = self.program(self.net)

        def call(net: Network) -> Outputs:
            # A program writes to the buffers that its forward writes to.
            buffers = net.source.buffers
            values = {
                n: t.value.clone() if n in buffers else t.value for n, t in net.tensors.items()
            }
            return self.run(_Bound(module, values))

        return call

    def free(self) -> list[Axis]:
        """The axes that may be permuted."""
        return [axis for axis in self.net.axes.values() if axis.frozen is None]


def _with_wide_dtypes(arguments: Any) -> Any:
    return fx.node.map_aggregate(
        arguments, lambda a: WIDE.get(a, a) if isinstance(a, torch.dtype) else a
    )


class _Bound(nn.Module):
    """A module with other tensors in it for the time of a call."""

    def __init__(self, module: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.module, self.values = module, values

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return functional_call(self.module, dict(self.values), args, kwargs)


def prepared(subject: nn.Module | Network, example_inputs: Any, seed: int) -> Subject:
    """A model traced, in float64 and with lively weights; a network as it is.

    Args:
        subject: a model in any dtype and on any device, which stays as it is, or a network.
        example_inputs: tuple of arguments or dict of keywords; integers stay integers.
        seed: of weights and generator.
    """
    if isinstance(subject, Network):
        generator = torch.Generator().manual_seed(seed)
        floats = [t.value.dtype for t in subject.tensors.values() if t.value.is_floating_point()]
        wide = all(dtype is torch.float64 for dtype in floats)
        return Subject(subject, as_inputs(example_inputs), generator, wide)
    return prepared_from(trace(subject, example_inputs), as_inputs(example_inputs), seed)


def prepared_from(net: Network, inputs: Any, seed: int) -> Subject:
    """A traced network in float64, with lively weights.

    Args:
        net: in any dtype.
        inputs: (args, kwargs).
        seed: of weights and generator.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = pytree.tree_map_only(torch.Tensor, widened, inputs)
    return Subject(lively(raised(net), generator), inputs, generator, wide=True)
