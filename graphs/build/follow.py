"""Whether a forward computes what a program computes, told by its calls while it runs.

Values are numbered: the same operator on values of the same numbers gives a value of the same
number, whatever the weights and the inputs are. A forward that returns the numbers that the program
returns computes the same, which no comparison of outputs can tell; so it takes no program that runs
beside it and no random weights, nor what its layers give (`graphs.calls.placeholders`). One that
does not may still compute the same in other calls.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Hashable
from itertools import chain
from types import NoneType
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from graphs.calls.names import named
from graphs.calls.placeholders import stand_in
from graphs.calls.recording import conduct
from graphs.calls.running import Inputs, quiet_evaluation, seeded
from graphs.program.program import changed_calls
from graphs.relate.structure import Structure

_PLAIN = frozenset((int, float, bool, str, NoneType))
# Where a view is allowed, the two are one.
_SAME = {torch.ops.aten.reshape.default: torch.ops.aten.view.default}


def can_be_followed(net: Structure) -> bool:
    """Whether the program of a network is one pass over values, which `follows` compares with."""
    return net.program.recorded and not any(t.value.is_meta for t in net.tensors.values())


def follows(net: Structure, own: nn.Module, inputs: Inputs) -> bool:
    """Whether a module runs, and its calls compute what a network's program computes.

    Sizes that calls state count: True for another number of examples than the traced one says that
    it holds for any number. A forward that goes astray is not run to its end.

    Args:
        net: whose program was recorded.
        own: of the class that was traced, with tensors of the shapes in `net`.
        inputs: (args, kwargs) of its forward.
    """
    try:
        return _follows(net, own, inputs, compute=False)
    except _Strayed:
        return False
    except Exception:  # zeros that no weights give, or a forward that does not run at all
        try:
            return _follows(net, own, inputs, compute=True)
        except Exception:
            return False


def _follows(net: Structure, own: nn.Module, inputs: Inputs, compute: bool) -> bool:
    args, kwargs = inputs
    follower = _Follower(net, own, pytree.tree_leaves((args, kwargs)), compute)
    below = torch._C._AutoDispatchBelowAutograd()
    with quiet_evaluation(own), torch.no_grad(), seeded(), below, follower:
        result = own(*args, **kwargs)
    found = [follower.numbered(leaf) for leaf in pytree.tree_leaves(result)]
    del result
    if follower.left_behind():
        raise _LeftBehindError
    return not follower.lost and found == follower.returned


class _Strayed(Exception):
    """The forward multiplies what the program does not."""


class _LeftBehindError(Exception):
    """A module keeps what was not computed."""


class _Follower(TorchDispatchMode):
    """Lets every call run, or stands in for it, and numbers what it gives as the program does.

    Args:
        net: whose program is followed.
        own: the module that runs.
        leaves: its inputs.
        compute: whether to stand in for no call.
    """

    def __init__(self, net: Structure, own: nn.Module, leaves: list[Any], compute: bool) -> None:
        super().__init__()
        self.compute, self.stood_in = compute, False
        # Numbers of the inputs, and of all that follows from them.
        self.inputs: set[int] = set()
        self.fed: set[int] = set()
        self.numbers: dict[Hashable, int] = {}
        # Values were looked at, or changed in another order than others were read.
        self.lost, self.changes = False, 0
        # Of the tensors that are there: a reference, because ids are used again, and the number.
        self.known: dict[int, tuple[weakref.ref[torch.Tensor], int]] = {}
        self.constants: list[tuple[torch.Tensor, int]] = []
        self.nodes: dict[fx.Node, int] = {}
        self.kept = {t.value.untyped_storage()._cdata for t in net.tensors.values()}
        self.returned = self._number_program(net, own, iter(leaves))
        self.changes, self.ours = 0, len(self.numbers)
        costly = {cost.node for cost in net.program.costs}
        self.costly = {n.target for n in net.program.graph.nodes if n.name in costly}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch._dynamo is imported, which takes a second.
        return False

    def _number_program(self, net: Structure, own: nn.Module, leaves: Any) -> list[Any]:
        """Number all nodes; the numbers that the program returns."""
        changed = dict(changed_calls(net.program, net.source.axes, net.axes))
        tensors = dict(chain(*named(own)))
        fed: set[fx.Node] = set()
        for node in net.program.graph.nodes:
            if node.op == "call_function" and node.target is not operator.getitem:
                call = changed.get(node.name, (node.target, node.args, node.kwargs))
                self.nodes[node] = self._number(*call)
            elif node.op == "call_function":
                self.nodes[node] = self._of((self.nodes[node.args[0]], node.args[1]))
            elif node.op == "output":
                return [self.numbered(leaf) for leaf in pytree.tree_leaves(node.args[0])]
            else:
                self.nodes[node] = self._of(node)
                held = next(leaves) if node.op == "placeholder" else tensors.get(str(node.target))
                constant = net.program.constants.get(str(node.target))
                if isinstance(held, torch.Tensor):
                    self._came(held, self.nodes[node])
                elif isinstance(constant, torch.Tensor):
                    self.constants.append((constant, self.nodes[node]))
            if node.op == "placeholder" or not fed.isdisjoint(node.all_input_nodes):
                fed.add(node)
                self.fed.add(self.nodes[node])
            if node.op == "placeholder":
                self.inputs.add(self.nodes[node])
        raise AssertionError("the program returns nothing")

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        given = kwargs or {}
        known = conduct(function)
        if known.fresh:
            return function(*args, **given)  # told by its value where it is used
        number = self._number(function, args, given)
        self.lost = (
            self.lost
            or known.looks
            or (number >= self.ours and function in self.costly)
            or (known.mutates and self._is_kept(args[0]))
        )
        if self.lost:
            raise _Strayed
        out = None
        if not self.compute and args and self._is_fed(args[0]):
            out = stand_in(function, args)
        if out is None:
            out = function(*args, **given)
        else:
            self.stood_in = True
        if isinstance(out, tuple | list):
            for i, value in enumerate(out):
                self._came(value, self._of((number, i)))
        else:
            self._came(out, number)
        return out

    def left_behind(self) -> bool:
        """Whether something is still there that may follow from what was not computed."""
        return self.stood_in and any(
            held() is not None and number not in self.inputs
            for held, number in self.known.values()
            if number in self.fed or number >= self.ours
        )

    def _is_fed(self, value: Any) -> bool:
        found = self.known.get(id(value))
        return found is not None and found[1] in self.fed and found[0]() is value

    def _is_kept(self, value: Any) -> bool:
        """Whether a value lies in the memory of the network, which nothing may change."""
        return isinstance(value, torch.Tensor) and value.untyped_storage()._cdata in self.kept

    def _came(self, value: Any, number: int) -> None:
        if isinstance(value, torch.Tensor):
            self.known[id(value)] = weakref.ref(value), number

    def _of(self, key: Hashable) -> int:
        return self.numbers.setdefault(key, len(self.numbers))

    def _number(self, function: Any, args: Any, kwargs: Any) -> int:
        """The number of what a call gives, between the changes that came before and after it."""
        self.changes += conduct(function).ordered
        operands = tuple(map(self.numbered, args))
        named = tuple((key, self.numbered(kwargs[key])) for key in sorted(kwargs))
        return self._of((self.changes, _SAME.get(function, function), operands, named))

    def numbered(self, value: Any) -> Any:
        """An operand, with numbers for values."""
        if type(value) in _PLAIN:
            return type(value), value
        if isinstance(value, torch.Tensor):
            found = self.known.get(id(value))
            number = found[1] if found and found[0]() is value else self._constant(value)
            return "value", number
        if isinstance(value, fx.Node):
            return "value", self.nodes[value]
        if isinstance(value, list | tuple):
            return tuple(map(self.numbered, value))
        return type(value), value

    def _constant(self, tensor: torch.Tensor) -> int:
        """The number of a tensor that no call gave."""
        same = (number for held, number in self.constants if _equal(held, tensor))
        number = next(same, None)
        if number is None:
            number = self._of((id(tensor), len(self.numbers)))
            self.constants.append((tensor, number))
        self._came(tensor, number)
        return number


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    alike = one.dtype == other.dtype and one.device == other.device and one.shape == other.shape
    return alike and torch.equal(one, other)
