"""One forward pass, written down as a flat graph of ATen calls.

The forward runs as it is, on the example inputs, and its calls are recorded above autograd and
decompositions, so that a linear layer is one `aten.linear`: the calls that `torch.export` finds, in
a fraction of its time, but for the traced number of examples only. What takes long is not computed
(`graphs.calls.placeholders`), unless something of it outlives the pass. Where the forward looks at
values (control flow, shapes that depend on data) one pass does not tell what it computes: the
recorder gives up, and `torch.export` decides.
"""

from __future__ import annotations

import inspect
import operator
import os
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.fx.immutable_collections import immutable_list
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from graphs.calls.independence import computing_with, foreign
from graphs.calls.names import named
from graphs.calls.nested import leaves
from graphs.calls.placeholders import shape_of, stand_in
from graphs.calls.running import IN_STEPS
from graphs.tools.switches import Switch

_TORCH = os.path.dirname(torch.__file__) + os.sep
_MARK = "_metaprune_recorded"
# Calls that hand values to Python: `item`, and what `tolist` and `numpy` begin with.
_LOOKS = {"item", "_local_scalar_dense", "resolve_conj", "resolve_neg", "equal", "is_nonzero"}
_BY_VALUE = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
# Set by torch.export while it runs; `torch.compiler.is_exporting` and `is_compiling` read them.
_FLAGS = ("_is_compiling_flag", "_is_exporting_flag")
# What `torch.tensor` calls on the numbers it was given.
_FRESH = {"lift_fresh", "detach_"}
_MASKED = {"index"}
_MASKS = (torch.bool, torch.uint8)


class CannotRecordError(Exception):
    """One pass does not tell what the forward computes."""


class Recorded(nn.Module):
    """A graph, and the tensors that its `get_attr` nodes name beside those of the model."""

    graph: fx.Graph


def record(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    original: nn.Module | None = None,
) -> Recorded:
    """The ATen calls of one forward pass, without gradients.

    Nodes carry `val` (a meta tensor, or a list of them), `nn_module_stack` (the innermost module)
    and `stack_trace` (the innermost frame outside torch) in their `meta`, as those of
    `torch.export` do. All sizes are plain numbers.

    Args:
        model: in evaluation mode.
        args: positional arguments of its forward.
        kwargs: keyword arguments of its forward.
        original: what the model is a copy of, whose tensors it may not use.

    Returns:
        The graph, which returns the flat list of all returned tensors, and the tensors that are
        neither parameters nor buffers.

    Raises:
        CannotRecordError: the forward depends on values, or does what cannot be recorded.
        TraceError: it uses tensors of the original.
        Exception: whatever the forward raises.
    """
    try:
        return _record(model, args, kwargs, original, compute=False)
    except CannotRecordError:
        raise
    except Exception:  # zeros that no weights give, or a forward that does not run at all
        return _record(model, args, kwargs, original, compute=True)


def record_training(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], original: nn.Module
) -> Recorded:
    """The same of a module in training mode, whose buffers may change: a copy to throw away.

    Args:
        model: in training mode; it is of no use afterwards.
        args, kwargs, original: see `record`.
    """
    return _record(model, args, kwargs, original, compute=False, changing=True)


class _LeftBehindError(Exception):
    """A module keeps what was not computed."""


def _record(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    original: nn.Module | None = None,
    *,
    compute: bool,
    changing: bool = False,
) -> Recorded:
    tape = _Tape(model, original, changing)
    tape.begin(model, args, kwargs)
    calls = _Calls(tape, compute)
    with torch.no_grad(), exporting(), torch._C._AutoDispatchBelowAutograd(), calls:
        result = model(*args, **kwargs)
    tape.end(result)
    del result
    if not changing and any(given() is not None for given in calls.uncomputed):
        raise _LeftBehindError
    tape.root.graph = tape.graph
    return tape.root


class _Tape:
    """The graph as it grows, and which tensor came from which node."""

    def __init__(
        self, model: nn.Module, original: nn.Module | None = None, changing: bool = False
    ) -> None:
        self.changing = changing  # whether buffers may be written to
        self.graph, self.root = fx.Graph(), Recorded()
        self.names: dict[int, str] = {}
        for name, tensor in chain(*named(model)):
            self.names.setdefault(id(tensor), name)
        self.paths = {id(m): path for path, m in model.named_modules()}
        # Tensors that outlive the pass, with their nodes. They are held, so that ids stay theirs.
        self.lasting: dict[int, tuple[torch.Tensor, fx.Node]] = {}
        self.model, self.original = model, original
        self.foreign = {} if original is None else foreign(original, model)
        self.kept: set[int] | None = None
        # Path of a module → what its nodes say of it.
        self.stacks: dict[str, dict[str, tuple[str, None]]] = {}
        # Nodes whose values follow from numbers in the forward alone.
        self.constant: set[fx.Node] = set()
        # Nodes whose values follow from the inputs.
        self.fed: set[fx.Node] = set()

    def begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """A placeholder for every leaf of the inputs, named after its argument."""
        names = [*_positional(model, len(args)), *kwargs]
        for name, value in zip(names, (*args, *kwargs.values()), strict=True):
            leaves = pytree.tree_leaves(value)
            for i, leaf in enumerate(leaves):
                node = self.graph.placeholder(name if len(leaves) == 1 else f"{name}_{i}")
                node.meta["val"] = leaf
                if isinstance(leaf, torch.Tensor):
                    if type(leaf) is not torch.Tensor or id(leaf) in self.lasting:
                        raise CannotRecordError(f"{name} is a {type(leaf).__name__}, or twice")
                    node.meta["val"] = shape_of(leaf)
                    self.lasting[id(leaf)] = (leaf, node)
                    self.fed.add(node)
        self.arguments = names
        self.takes = pytree.tree_structure((args, dict(kwargs)))

    def end(self, result: Any) -> None:
        """Return what the forward returned, and take what it took."""
        leaves, returns = pytree.tree_flatten(result)
        self.graph.output(tuple(self._returned(leaf) for leaf in leaves))
        self.graph.set_codegen(_PyTreeCodeGen(_PyTreeInfo(self.arguments, self.takes, returns)))

    def _returned(self, leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return self.node(leaf)
        if leaf is None or isinstance(leaf, int | float | str):
            return leaf
        raise CannotRecordError(f"the forward returns a {type(leaf).__name__}")

    def node(self, tensor: torch.Tensor) -> fx.Node:
        """The node that a tensor came from; parameters, buffers and constants come when needed."""
        found = self.lasting.get(id(tensor))
        if found is not None:
            return found[1]
        mark = tensor.__dict__.get(_MARK)
        if mark is not None and mark[0] is self:
            node: fx.Node = mark[1]
            return node
        if type(tensor) not in (torch.Tensor, nn.Parameter, nn.Buffer):
            raise CannotRecordError(f"a tensor of type {type(tensor).__name__}")
        name = self.names.get(id(tensor))
        if id(tensor) in self.foreign:
            raise computing_with(self.original, self.foreign[id(tensor)])
        if name is None:
            name = f"_constant_{len(self.root._buffers)}"
            self.root.register_buffer(name, tensor)
        node = self.graph.create_node("get_attr", name, name=name)
        if id(tensor) not in self.names:
            self.constant.add(node)
        elif tensor.dtype in _MASKS:
            node.meta["val"] = shape_of(tensor)
        self.lasting[id(tensor)] = (tensor, node)
        return node

    def is_fed(self, value: Any) -> bool:
        """Whether a value is an input, or was made of inputs."""
        if not isinstance(value, torch.Tensor):
            return False
        held = self.lasting.get(id(value)) or value.__dict__.get(_MARK, (None, None))
        return held[1] in self.fed

    def is_new(self, value: Any) -> bool:
        """Whether a value was made of inputs, and is none of them."""
        return self.is_fed(value) and id(value) not in self.lasting

    def call(self, function: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Write one call down."""
        known = _facts(function)
        nodes: list[fx.Node] = []
        args = tuple(self._argument(a, nodes) for a in args)
        kwargs = {k: self._argument(v, nodes) for k, v in kwargs.items()}
        constant = not known.random and all(n in self.constant for n in nodes)
        if not constant and (known.looks or (known.masked and _by_mask(nodes))):
            raise CannotRecordError(f"{function} depends on values")
        if known.fresh and all(n.op == "get_attr" for n in nodes):
            if out.dim():
                raise CannotRecordError("a tensor made from a list, which may hold values")
            return
        many = isinstance(out, tuple | list)
        if not many and not isinstance(out, torch.Tensor):
            if out is None or constant:
                return
            raise CannotRecordError(f"{function} depends on values")
        node = self._node(function, args, kwargs, known.name, constant)
        fed = not self.fed.isdisjoint(nodes)
        if fed:
            self.fed.add(node)
        module, place = self._where()
        node.meta["nn_module_stack"] = self.stacks.setdefault(module, {"": (module, None)})
        node.meta["stack_trace"] = place
        if not many:
            node.meta["val"] = shape_of(out)
            self._came(out, node, known.mutates)
            return
        values = [shape_of(v) if isinstance(v, torch.Tensor) else v for v in out]
        node.meta["val"] = values
        for i, value in enumerate(out):
            if isinstance(value, torch.Tensor):
                item = self._node(operator.getitem, (node, i), {}, "getitem", constant)
                if fed:
                    self.fed.add(item)
                item.meta["val"] = values[i]
                self._came(value, item, known.mutates)

    def spare(self, function: Any, args: Any) -> None:
        """Let nothing write into memory that the model or the caller keeps."""
        if self.kept is None:
            buffers = () if self.changing else self.model.buffers()
            tensors = (*self.model.parameters(), *buffers)
            held = (tensor for tensor, _ in self.lasting.values())
            self.kept = {t.untyped_storage()._cdata for t in (*tensors, *held)}
        if isinstance(args[0], torch.Tensor) and args[0].untyped_storage()._cdata in self.kept:
            raise CannotRecordError(f"{function} changes an input, a parameter or a constant")

    def _node(self, function: Any, args: Any, kwargs: Any, name: str, constant: bool) -> fx.Node:
        node = self.graph.create_node("call_function", function, name=name)
        # Arguments are set afterwards because `create_node` searches them for symbolic sizes.
        node.args = args
        if kwargs:
            node.kwargs = kwargs
        if constant:
            self.constant.add(node)
        return node

    def _came(self, tensor: torch.Tensor, node: fx.Node, changed: bool) -> None:
        if id(tensor) not in self.lasting:
            tensor.__dict__[_MARK] = (self, node)
        elif changed and not self.changing:
            raise CannotRecordError(f"{node} changes an input, a parameter or a constant")
        else:
            self.lasting[id(tensor)] = (tensor, node)

    def _argument(self, value: Any, nodes: list[fx.Node]) -> Any:
        if isinstance(value, torch.Tensor):
            node = self.node(value)
            nodes.append(node)
            return node
        if isinstance(value, list | tuple):
            return immutable_list([self._argument(v, nodes) for v in value])
        return value

    def _where(self) -> tuple[str, str]:
        """Path of the innermost module that runs, and the innermost line outside torch."""
        module: str | None = None
        place: str | None = None
        frame: Any = sys._getframe(3)
        while frame is not None and (module is None or place is None):
            code = frame.f_code
            if module is None and code.co_varnames[:1] == ("self",):
                module = self.paths.get(id(frame.f_locals.get("self")))
            if place is None and not code.co_filename.startswith(_TORCH):
                place = f'File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}'
            frame = frame.f_back
        return module or "", place or ""


class _Calls(TorchDispatchMode):
    """Lets every call run, or stands in for it, and writes it down.

    Args:
        tape: to write on.
        compute: whether to stand in for none.
    """

    def __init__(self, tape: _Tape, compute: bool) -> None:
        super().__init__()
        self.tape, self.compute, self.stood_in = tape, compute, False
        # What followed from zeros.
        self.uncomputed: list[weakref.ref[torch.Tensor]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch._dynamo is imported, which takes a second.
        return False

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        given = kwargs or {}
        known = _facts(function)
        if known.mutates and not known.fresh:
            self.tape.spare(function, args)
        out = None
        if not self.compute and args and self.tape.is_fed(args[0]):
            out = stand_in(function, args)
        if out is None:
            out = function(*args, **given)
        else:
            self.stood_in = True
        self.tape.call(function, args, given, out)
        if self.stood_in:
            self.uncomputed += [weakref.ref(v) for v in leaves(out) if self.tape.is_new(v)]
        return out


@contextmanager
def _exporting() -> Iterator[None]:
    flags = {name: getattr(torch.compiler, name) for name in _FLAGS}
    try:
        for name in _FLAGS:
            setattr(torch.compiler, name, True)
        yield
    finally:
        for name, flag in flags.items():
            setattr(torch.compiler, name, flag)


EXPORTING = Switch(_exporting)
"""Forwards that ask `torch.compiler.isexporting()` go the way that they go in torch.export."""


@contextmanager
def exporting() -> Iterator[None]:
    """Forwards go the way that they go in torch.export.

    `nn.MultiheadAttention` goes in its own steps instead of one fused call, as it does there.
    """
    with EXPORTING, IN_STEPS:
        yield


def _positional(model: nn.Module, count: int) -> list[str]:
    """Names of the first `count` positional arguments of a forward."""
    names: list[str] = []
    for parameter in inspect.signature(model.forward).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names.extend(f"{parameter.name}_{i}" for i in range(count))
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            names.append(parameter.name)
    return names[:count]


class _Facts(NamedTuple):
    """What the tape must know of an operator."""

    name: str
    looks: bool  # hands values to Python, or makes a shape of them
    masked: bool  # so does it where an index is a mask
    fresh: bool
    random: bool
    mutates: bool


@cache
def _facts(function: Any) -> _Facts:
    if function.namespace != "aten":
        raise CannotRecordError(f"torch.export must say whether {function} can be traced")
    name, tags = function.overloadpacket.__name__, set(function.tags)
    masked = name in _MASKED
    return _Facts(
        name=name.strip("_"),
        looks=name in _LOOKS or (not masked and not _BY_VALUE.isdisjoint(tags)),
        masked=masked,
        fresh=name in _FRESH,
        random=torch.Tag.nondeterministic_seeded in tags,
        mutates=function._schema.is_mutable,
    )


class Conduct(NamedTuple):
    """What a call does beside giving a value that follows from its operands."""

    fresh: bool  # one that `torch.tensor` calls on the numbers it was given
    looks: bool  # hands values to Python, or makes a shape of them
    mutates: bool
    ordered: bool  # changes its operands, or draws random numbers


@cache
def conduct(function: Any) -> Conduct:
    """What calls of an operator do beside giving a value."""
    known = _facts(function) if function.namespace == "aten" else None
    mutates = function._schema.is_mutable
    return Conduct(
        fresh=known is not None and known.fresh,
        looks=known is not None and known.looks,
        mutates=mutates,
        ordered=mutates or torch.Tag.nondeterministic_seeded in function.tags,
    )


def _by_mask(nodes: list[fx.Node]) -> bool:
    return any("val" in n.meta and n.meta["val"].dtype in _MASKS for n in nodes[1:])
