"""The traced program: one flat fx graph of ATen calls, and how to rewrite it for other shapes."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from graphs.counting import Product
from graphs.dims import Axis, Dim, atoms, size
from graphs.nested import leaves
from graphs.rescale import Rescale
from graphs.rules.registry import Cost, Extent, Inverse, Pinned, operator_name

# Operators whose behaviour in training differs: where their flag stands in the ATen signature.
_TRAINING_ARGUMENT = {"batch_norm": 5, "dropout": 2, "alpha_dropout": 2, "feature_dropout": 2}


@dataclass(frozen=True)
class Program:
    """A flat graph whose integer arguments are known as expressions over axes.

    Attributes:
        graph: ATen calls; `get_attr` targets are tensor names or constants.
        constants: tensors that the forward itself makes, and branches of torch.cond, by target.
        dims: node name → dimensions of its result; of all results, one after another, of a tuple.
        arguments: node name → {position or keyword: value with `Extent`/`Pinned` leaves}.
        costs: multiply–accumulates of every node, as products of dimensions.
        batch: number of examples in the traced input; costs are divided by it.
        modules: node name → path of the module that made the call.
        rescales: parameters that follow the number of units of root-mean-square norms.
        recorded: whether it was written down in one pass, for the traced number of examples only.
    """

    graph: fx.Graph
    constants: Mapping[str, Any]
    dims: Mapping[str, tuple[Dim, ...]]
    arguments: Mapping[str, Mapping[int | str, Any]]
    costs: tuple[Cost, ...]
    batch: int
    modules: Mapping[str, str] = field(default_factory=dict)
    rescales: tuple[Rescale, ...] = ()
    recorded: bool = False

    @cached_property
    def work(self) -> tuple[tuple[str, Product], ...]:
        """Module path (node where no module is known) and multiply–accumulates, node by node."""
        return tuple((c.module or c.node, Product.of(c.dims)) for c in self.costs)


def _dims_inside(value: Any) -> list[Dim]:
    return [leaf.dim for leaf in leaves(value) if isinstance(leaf, Extent | Pinned | Inverse)]


def changed_extents(
    program: Program, before: Mapping[str, Axis], after: Mapping[str, Axis]
) -> list[tuple[str, int, int]]:
    """(module path, old size, new size) of every size argument that differs."""
    changes = []
    for node, given in program.arguments.items():
        for leaf in leaves(list(given.values())):
            if not isinstance(leaf, Extent | Pinned):
                continue
            old, new = size(leaf.dim, before), size(leaf.dim, after)
            if old != new:
                changes.append((program.modules.get(node, ""), old, new))
    return changes


def changed_numbers(
    program: Program, before: Mapping[str, Axis], after: Mapping[str, Axis]
) -> list[tuple[str, float, float]]:
    """(module path, old value, new value) of every number that follows a size (an ε)."""
    return [
        (program.modules.get(node, ""), leaf.value, _inverse(leaf, before, after))
        for node, given in program.arguments.items()
        for leaf in leaves(list(given.values()))
        if isinstance(leaf, Inverse) and size(leaf.dim, before) != size(leaf.dim, after)
    ]


def _inverse(leaf: Inverse, before: Mapping[str, Axis], after: Mapping[str, Axis]) -> float:
    return leaf.value * size(leaf.dim, before) / size(leaf.dim, after)


Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


def changed_calls(
    program: Program,
    before: Mapping[str, Axis],
    after: Mapping[str, Axis],
    resize: Callable[[fx.Node, fx.Node, int, int], Any] | None = None,
) -> Iterator[tuple[str, Call]]:
    """(node name, (target, args, kwargs)) of every call that differs for the axes `after`.

    Args:
        program: the program.
        before, after: the axes as traced, and as they are now.
        resize: (node, its size argument, old and new number of positions) → what to pass where the
            size is computed by another node; needed where sizes are open.
    """
    smaller = {n for n in after if after[n].size != before[n].size}

    def concrete(new: Any, old: Any, at: fx.Node) -> Any:
        if isinstance(new, Extent):
            if old is not None and smaller.isdisjoint(atoms(new.dim)):
                return old
            fewer = size(new.dim, after) + new.offset
            if not isinstance(old, fx.Node):
                return fewer
            assert resize is not None
            return resize(at, old, size(new.dim, before), fewer)
        if isinstance(new, Pinned):
            return old if smaller.isdisjoint(atoms(new.dim)) else new.value
        if isinstance(new, Inverse):
            return _inverse(new, before, after)
        return new

    for node in program.graph.nodes if smaller else ():
        # A smaller operand may be laid out in another way than the one that the view was traced on.
        view = node.target is torch.ops.aten.view.default
        target = torch.ops.aten.reshape.default if view else node.target
        given = program.arguments.get(node.name)
        if given is None or all(
            smaller.isdisjoint(atoms(d)) for d in _dims_inside(list(given.values()))
        ):
            if view:
                yield node.name, (target, node.args, dict(node.kwargs))
            continue
        args, kwargs = list(node.args), dict(node.kwargs)
        for where, new in given.items():
            old = kwargs.get(where) if isinstance(where, str) else args[where]
            if isinstance(new, list | tuple):
                olds = old if isinstance(old, list | tuple) else [None] * len(new)
                value: Any = [
                    concrete(n, o, node) if not isinstance(n, fx.Node) else o
                    for n, o in zip(new, olds, strict=True)
                ]
            else:
                value = concrete(new, old, node)
            if isinstance(where, str):
                kwargs[where] = value
            else:
                args[where] = value
        if operator_name(node.target) in ("split", "chunk", "tensor_split"):
            target = torch.ops.aten.split_with_sizes.default
        yield node.name, (target, tuple(args), kwargs)


def rewritten(program: Program, before: Mapping[str, Axis], after: Mapping[str, Axis]) -> fx.Graph:
    """A copy of the graph whose size arguments follow the axes `after`."""
    graph = fx.Graph()
    values: dict[fx.Node, fx.Node] = {}
    output = graph.graph_copy(program.graph, values)
    graph.output(output)
    graph.set_codegen(program.graph._codegen)
    copies = {old.name: new for old, new in values.items()}

    def resize(at: fx.Node, old: fx.Node, whole: int, fewer: int) -> fx.Node:
        with graph.inserting_before(copies[at.name]):
            grown = graph.call_function(operator.mul, (values[old], fewer))
            return graph.call_function(operator.floordiv, (grown, whole))

    for name, (target, args, kwargs) in changed_calls(program, before, after, resize):
        node = copies[name]
        node.target = target
        node.args = fx.map_arg(args, lambda n: values.get(n, n))
        node.kwargs = fx.map_arg(kwargs, lambda n: values.get(n, n))
    return graph


class ExportedModule(fx.GraphModule):
    """An exported graph as a module: trainable, with working `train()`, `eval()` and `to()`.

    The traced forward has its training flags, its device and its dtype baked in as arguments.
    `train` rewrites the flags, so that batch norm uses batch statistics and dropout drops while
    training; `to` and its kind rewrite the device and the dtype of what the forward makes or casts
    to. After a cast of the module, parts that the forward computes in the traced dtype on purpose
    (norms in float32) are computed in the new one.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> ExportedModule:
        with warnings.catch_warnings():
            # torch warns of its own way to copy the description of inputs and outputs.
            warnings.simplefilter("ignore", FutureWarning)
            copied: ExportedModule = super().__deepcopy__(memo)
        return copied

    def _apply(self, fn: Any, recurse: bool = True) -> ExportedModule:
        before = _kinds(self)
        super()._apply(fn, recurse)
        changed = {old: new for old, new in zip(before, _kinds(self), strict=True) if old != new}
        if changed:
            for node in self.graph.nodes:
                node.args, node.kwargs = pytree.tree_map(
                    lambda v: changed.get(v, v) if isinstance(v, torch.device | torch.dtype) else v,
                    (node.args, node.kwargs),
                )
            self.recompile()
        return self

    def train(self, mode: bool = True) -> ExportedModule:
        """Switch between training and evaluation, in the calls as well as in the flag."""
        super().train(mode)
        changed = False
        for node in self.graph.nodes:
            where = _TRAINING_ARGUMENT.get(operator_name(node.target))
            if node.op != "call_function" or where is None or len(node.args) <= where:
                continue
            if operator_name(node.target) == "batch_norm" and node.args[3] is None:
                continue  # It has no statistics but those of the batch.
            if node.args[where] is not mode:
                node.update_arg(where, mode)
                changed = True
        if changed:
            self.recompile()
        return self


def _kinds(module: nn.Module) -> tuple[torch.device | None, torch.dtype | None]:
    """Device and floating dtype of a module, by its first tensors."""
    tensors = [*module.parameters(), *module.buffers()]
    floats = [t.dtype for t in tensors if t.is_floating_point()]
    return tensors[0].device if tensors else None, floats[0] if floats else None


def exported_module(
    program: Program,
    graph: fx.Graph,
    tensors: Mapping[str, torch.Tensor],
    parameters: Mapping[str, bool],
    buffers: Mapping[str, bool],
    aliases: Mapping[str, str],
) -> ExportedModule:
    """A module that runs `graph` over `tensors`.

    Args:
        program: the program the graph comes from.
        graph: the (rewritten) graph.
        tensors: name → value.
        parameters: name → requires_grad, for the tensors that are parameters.
        buffers: name → persistent, for the others.
        aliases: state-dict name → name in `tensors`; tied ones become one parameter.
    """
    root = nn.Module()
    made: dict[str, torch.Tensor] = {}
    for alias, name in aliases.items():
        *path, leaf = alias.split(".")
        owner = root
        for part in path:
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = getattr(owner, part)
        if name in parameters:
            if name not in made:
                made[name] = nn.Parameter(tensors[name], requires_grad=parameters[name])
            owner.register_parameter(leaf, made[name])
        else:
            owner.register_buffer(leaf, tensors[name], persistent=buffers.get(name, True))
    for name, value in program.constants.items():
        if isinstance(value, nn.Module):
            root.add_module(name, value)
        else:
            root.register_buffer(name, value.detach().clone(), persistent=False)
    module = ExportedModule(root, graph)
    for name, child in root.named_children():
        module.add_module(name, child)
    for name, parameter in root._parameters.items():
        module.register_parameter(name, parameter)
    for name, buffer in root._buffers.items():
        module.register_buffer(
            name, buffer, persistent=name not in root._non_persistent_buffers_set
        )
    return module


def insist_on_batch(module: ExportedModule) -> ExportedModule:
    """Make a program that was recorded for one number of examples refuse any other, in place.

    Some operators read past the end of states that are too few instead of raising.
    """
    graph = module.graph
    places = [n for n in graph.nodes if n.op == "placeholder"]
    for place in reversed(places):
        held = place.meta.get("val")
        if not isinstance(held, torch.Tensor) or not held.dim():
            continue
        with graph.inserting_after(places[-1]):
            size_ = graph.call_function(torch.ops.aten.sym_size.int, (place, 0))
        with graph.inserting_after(size_):
            same = graph.call_function(operator.eq, (size_, int(held.shape[0])))
        with graph.inserting_after(same):
            said = f"{place.name} must have {held.shape[0]} examples, as many as were traced"
            graph.call_function(torch._assert, (same, said))
    module.recompile()
    return module
