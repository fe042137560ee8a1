"""Whether the forward in training mode makes the calls that the one in evaluation mode makes.

Heads and losses that run in training only read the axes that all else reads: what is cut must be
cut in them too. Where the two forwards differ, both are walked over (`graphs.relate.walk`). Mostly
they do not, which is seen without writing the second one down.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from itertools import chain
from operator import getitem
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from graphs.calls.names import named
from graphs.calls.nested import leaves
from graphs.calls.placeholders import stand_in
from graphs.calls.recording import Recorded, conduct, exporting
from graphs.calls.running import Inputs, as_written, outputs, quiet, seeded

_BATCH_NORM = torch.ops.aten.batch_norm.default
_ADD = torch.ops.aten.add_.Tensor
_MARK = "_metaprune_followed"
_CONSTANT = "constant"


def trains_alike(module: Recorded | fx.GraphModule, copied: nn.Module, inputs: Inputs) -> bool:
    """Whether a forward in training mode makes the calls of a recorded one, on the same values.

    Rates and flags (of dropout, of norms) differ between the modes; calls that only count what was
    seen are left out. False too where the forward does not run in training mode.

    Args:
        module: the forward in evaluation mode.
        copied: a copy of the model, to throw away.
        inputs: as traced.
    """
    if not isinstance(module, Recorded):
        return False
    args, kwargs = inputs
    following = _Following(module.graph, copied, pytree.tree_leaves((args, kwargs)))
    below = torch._C._AutoDispatchBelowAutograd()
    with quiet(copied, training=True), as_written(copied), seeded(), exporting(), torch.no_grad():
        try:
            with below, following:
                result = copied(*args, **kwargs)
            returned = [following.key(leaf) for leaf in pytree.tree_leaves(result)]
            del result
        except Exception:  # it goes another way, or does not run
            return False
    if any(given() is not None for given in following.given):
        outputs(copied, inputs)  # whoever keeps something (a hook of the user) keeps real values
    return following.ended() and returned == following.returned


class _OtherWayError(Exception):
    """The forward makes another call."""


class _Following(TorchDispatchMode):
    """Compares every call with the next one of a graph, and computes little of it."""

    def __init__(self, graph: fx.Graph, copied: nn.Module, inputs: list[Any]) -> None:
        super().__init__()
        self.inputs = inputs  # ids stay theirs while they are held
        self.kept: dict[int, Any] = {id(leaf): i for i, leaf in enumerate(inputs)}
        for name, tensor in chain(*named(copied)):
            self.kept.setdefault(id(tensor), name)
        self.number = 0
        self.returned: list[Any] = []
        self.given: list[weakref.ref[torch.Tensor]] = []
        self.expected = self._calls(graph, set(self.kept.values()))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch._dynamo is imported, which takes a second.
        return False

    def _calls(self, graph: fx.Graph, names: set[Any]) -> Iterator[Any]:
        """The calls of a graph, as `_call` puts them."""
        keys: dict[Any, Any] = {}
        inputs = calls = 0
        for node in graph.nodes:
            if node.op == "placeholder":
                keys[node], inputs = inputs, inputs + 1
            elif node.op == "get_attr":
                keys[node] = node.target if node.target in names else _CONSTANT
            elif node.op == "output":
                found = pytree.tree_leaves(node.args)
                self.returned = [keys[v] if isinstance(v, fx.Node) else v for v in found]
            elif node.target is getitem:
                keys[node] = (*keys[node.args[0]][:2], node.args[1])
            else:
                calls += 1
                keys[node] = ("call", calls, 0)
                given = leaves((node.args, node.kwargs))
                yield node.target, [keys[v] if isinstance(v, fx.Node) else v for v in given]

    def ended(self) -> bool:
        """Whether the graph has no more calls."""
        return next(self.expected, None) is None

    def key(self, value: Any) -> Any:
        """What stands for a value: of tensors where they came from."""
        if not isinstance(value, torch.Tensor):
            return value
        found = self.kept.get(id(value))
        return value.__dict__.get(_MARK, _CONSTANT) if found is None else found

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        given = leaves((args, kwargs or {}))
        tensors = [value for value in given if isinstance(value, torch.Tensor)]
        counts = function is _ADD and len(tensors) == 1 and id(args[0]) in self.kept
        if conduct(function).fresh or counts:
            return function(*args, **(kwargs or {}))
        target, expected = next(self.expected, (None, None))
        if target is not function or not _alike(expected, list(map(self.key, given))):
            raise _OtherWayError
        out = stand_in(function, args) if args else None
        if function is _BATCH_NORM:
            out = torch.zeros_like(args[0])
        if out is None:
            out = function(*args, **(kwargs or {}))
        self.number += 1
        for i, value in enumerate(out if isinstance(out, tuple | list) else (out,)):
            if not isinstance(value, torch.Tensor):
                continue
            if id(value) in self.kept:  # given back as it was
                self.kept[id(value)] = ("call", self.number, i)
            else:
                self.given.append(weakref.ref(value))
                value.__dict__[_MARK] = ("call", self.number, i)
        return out


def _alike(expected: Any, given: list[Any]) -> bool:
    return len(expected) == len(given) and all(
        a == b or (isinstance(a, bool | float) and isinstance(b, bool | float))
        for a, b in zip(expected, given, strict=True)
    )
