"""From a module to a `Network`: export, relate dimensions operator by operator, name the axes."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import fx, nn

from graphs.admission import admit, unwrapped
from graphs.copying import copy_module
from graphs.dims import Atom, Axis, Dim, Fixed, Prod, Sum, atoms
from graphs.exactness import classify
from graphs.export import Inputs, as_inputs, attribute, capture, export
from graphs.guard import overlooked
from graphs.names import Names
from graphs.nested import leaves, mapped
from graphs.network import Network, Source, Tensor
from graphs.program import Program
from graphs.recording import Recorded
from graphs.rescale import root_mean_square_scales
from graphs.rules import Extent, Inverse, Pinned, Value, lookup, routing
from graphs.rules.registry import (
    Context,
    Facts,
    describe,
    moves_only,
    operator_name,
    reparametrises,
)
from graphs.unify import Unifier


def trace(model: nn.Module, example_inputs: Any, *, every_size: bool = False) -> Network:
    """The network of a module as axes and tensors.

    One forward pass in evaluation mode is recorded; where the forward decides by values, the module
    is exported by `torch.export`. It is left as it was. What no operator rule understands is frozen
    with the reason, never guessed.

    Args:
        model: any module that `torch.export` accepts.
        example_inputs: tuple of positional arguments or dict of keyword arguments for its forward;
            a batch of one is enough.
        every_size: leave every size of the inputs open in the program that the model allows (token
            counts, image sizes), not only the number of examples.

    Raises:
        TraceError: the module does not run on the inputs, or cannot be exported.
    """
    inputs = as_inputs(example_inputs)
    model = unwrapped(model)
    admit(model)
    # What a forward keeps for its next call stays in a copy, and what an earlier one kept is no
    # constant.
    copied = _structure(model)
    module = export(copied, inputs, every_size=True) if every_size else capture(copied, inputs)
    return _network(module, model, inputs)


def reopened(net: Network) -> Network:
    """The network as traced, by `torch.export`, whose programs take any number of examples.

    Raises:
        TraceError: the module cannot be exported.
    """
    model, inputs = net.source.model, net.source.example
    return _network(export(_structure(model), inputs), model, inputs)


def _network(module: Recorded | fx.GraphModule, model: nn.Module, inputs: Inputs) -> Network:
    walk = _Walk(module, Names(model))
    walk.run()
    return walk.network(model, inputs)


# Stands for a number of positions that is known at run time only (a prime).
_UNKNOWN = 7919


class _Walk:
    """One pass over the graph: every node gets dimensions, every operator states its relations."""

    def __init__(self, module: Recorded | fx.GraphModule, names: Names) -> None:
        self.module, self.names = module, names
        self.solver, self.facts = Unifier(), Facts()
        self.env: dict[fx.Node, Any] = {}
        self.constants: dict[str, Any] = {}
        self.paths: dict[str, str] = {}
        self.tensor_dims: dict[str, tuple[Dim, ...]] = {
            name: tuple(self.solver.fresh(n) for n in value.shape)
            for name, value in names.values.items()
        }
        self.used: set[str] = set()
        self.batch = 1

    def run(self) -> None:
        """Interpret the graph abstractly."""
        first_input = True
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self.env[node] = self._input(node)
                if first_input and isinstance(self.env[node], Value) and self.env[node].shape:
                    self.batch, first_input = self.env[node].shape[0], False
            elif node.op == "get_attr":
                self.env[node] = self._tensor(node)
            elif node.op == "call_function":
                self.env[node] = self._call(node)
            elif node.op == "output":
                for value in leaves(mapped(self._operand, node.args)):
                    for dim in value.dims if isinstance(value, Value) else ():
                        self.solver.freeze(dim, "output of the model")
        for name, dims in self.tensor_dims.items():
            if name not in self.used:
                for dim in dims:
                    self.solver.freeze(dim, "the traced forward does not use it")
            elif name in self.names.buffers and not self.names.buffers[name]:
                # Made anew by the class, at any width, it is the same where its units are alike.
                for i, dim in enumerate(dims):
                    if not _uniform(self.names.values[name], i):
                        reason = f"{name} is not saved with the model and would come back uncut"
                        self.solver.freeze(dim, reason)

    def _input(self, node: fx.Node) -> Any:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            return value
        shape = _hints(value.shape)
        return Value(tuple(Fixed(n, f"input {node.name!r}") for n in shape), shape, node=node)

    def _tensor(self, node: fx.Node) -> Any:
        target = str(node.target)
        name = self.names.aliases.get(target)
        if name is not None:
            if name != target:
                node.target = name
            self.used.add(name)
            shape = tuple(self.names.values[name].shape)
            places = tuple(range(len(shape)))
            return Value(
                self.tensor_dims[name], shape, tensor=name, node=node, places=places, still=True
            )
        value = attribute(self.module, target)
        flat = target.replace(".", "_")
        if isinstance(value, fx.GraphModule):
            node.target, self.constants[flat] = flat, value
        if not isinstance(value, torch.Tensor):
            return value
        node.target, self.constants[flat] = flat, value
        node.meta["constant"] = value
        shape = tuple(value.shape)
        dims = tuple(Fixed(n, "constant in the forward") for n in shape)
        return Value(dims, shape, node=node, still=True)

    def _call(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            held, index = self.env[node.args[0]], node.args[1]
            return held[index] if isinstance(held, tuple | list) else _result(node)
        results = [v for v in leaves(node.meta.get("val")) if isinstance(v, torch.Tensor)]
        if not results:
            return node.meta.get("val")
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path = str(stack[-1][0]) if stack else ""
        self.paths[node.name] = path
        shapes = tuple(_hints(v.shape) for v in results)
        context = Context(node, self.solver, self.facts, path, shapes)
        args, kwargs = mapped(self._operand, (node.args, dict(node.kwargs)))
        operands = [v for v in leaves((args, kwargs)) if isinstance(v, Value)]
        found = lookup(node.target)
        if found is None:
            context.opaque(operands, "no rule for the operator")
            dims: Any = tuple(context.fixed(s, f"result of {describe(node)}") for s in shapes)
        else:
            dims = found.function(context, *args, **kwargs)
            if len(shapes) == 1 and not isinstance(node.meta["val"], tuple | list):
                dims = (dims,)
        still = all(operand.still for operand in operands)
        pairs = zip(dims, shapes, strict=True)
        values = tuple(Value(tuple(d), s, node=node, still=still) for d, s in pairs)
        values = (_of_tensor(values[0], operands), *values[1:])
        numbers = routing.follow(context, operands)
        if numbers is not None:
            which = -1 if operator_name(node.target) == "topk" else 0
            numbered = replace(values[which], numbers=numbers)
            values = (*values[:-1], numbered) if which else (numbered, *values[1:])
        for value in values:
            assert len(value.dims) == len(value.shape), f"{node}: {value}"
        return values if isinstance(node.meta["val"], tuple | list) else values[0]

    def _operand(self, value: Any) -> Any:
        if not isinstance(value, fx.Node):
            return value
        held = self.env[value]
        if isinstance(held, torch.SymInt):
            return _hint(held)
        return held

    def network(self, model: nn.Module, inputs: Inputs) -> Network:
        """Solve, name and freeze what is left, and put the values in."""
        naming = self._name_axes()
        self.solver.ground(naming)
        resolve = self.solver.resolve

        finals: dict[int, tuple[Dim, Dim]] = {}

        def final(dim: Dim) -> Dim:
            # By identity, because hashing a long concatenation takes as long as renaming it.
            found = finals.get(id(dim))
            if found is None:
                found = finals[id(dim)] = dim, _renamed(resolve(dim), naming)
            return found[1]

        tensors = {}
        for name, dims in self.tensor_dims.items():
            produces = tuple(
                (name, i) in self.facts.produced or (name, i) not in self.facts.consumed
                for i in range(len(dims))
            )
            role = self.facts.roles.get(name, "constant")
            value = self.names.values[name]
            tensors[name] = Tensor(value, tuple(map(final, dims)), role, produces)
        minimum: dict[str, int] = {}
        for dim, least in self.facts.minimum:
            resolved = resolve(dim)
            if isinstance(resolved, Atom):
                minimum[resolved.axis] = max(least, minimum.get(resolved.axis, 1))
            else:
                self.solver.freeze(resolved, f"top-{least} of several axes")
        kinds, frozen = self.solver.kinds, self.solver.frozen
        rescales = root_mean_square_scales(self.facts, resolve, self.tensor_dims)
        stated: dict[str, list[str]] = {}
        for dim, kind in self.facts.exactness:
            for axis in atoms(final(dim)):
                stated.setdefault(axis, []).append(kind)
        values = {
            node.name: [
                v for v in (held if isinstance(held, tuple) else (held,)) if isinstance(v, Value)
            ]
            for node, held in self.env.items()
            if node.op == "call_function" and isinstance(held, Value | tuple)
        }
        dims_of = {
            name: tuple(final(d) for v in results for d in v.dims)
            for name, results in values.items()
        }
        forgotten = overlooked(self.module.graph, dims_of, {n: t.dims for n, t in tensors.items()})
        used = dict.fromkeys(a for t in tensors.values() for d in t.dims for a in atoms(d))
        back = {new: old for old, new in naming.items()}
        axes = {
            name: Axis(
                name,
                self.solver.sizes[back[name]],
                kinds[back[name]],
                frozen.get(back[name])
                or ("it has a single unit" if self.solver.sizes[back[name]] == 1 else None)
                or forgotten.get(name),
                minimum=minimum.get(back[name], 1),
            )
            for name in used
        }
        program = Program(
            graph=self.module.graph,
            constants=self.constants,
            dims=dims_of,
            arguments={
                node: {where: _map_dims(value, final) for where, value in given.items()}
                for node, given in self.facts.arguments.items()
            },
            costs=tuple(replace(c, dims=tuple(map(final, c.dims))) for c in self.facts.costs),
            batch=self.batch,
            modules=self.paths,
            recorded=isinstance(self.module, Recorded),
            rescales=tuple(replace(r, dim=final(r.dim)) for r in rescales),
        )
        axes = classify(program, tensors, axes, stated)
        source = Source(
            model=_structure(model),
            example=inputs,
            aliases=self.names.aliases,
            parameters=self.names.parameters,
            buffers=self.names.buffers,
            axes=axes,
        )
        return Network(MappingProxyType(axes), MappingProxyType(tensors), program, source)

    def _name_axes(self) -> dict[str, str]:
        """Variable → readable name, after the first tensor that produces along it."""
        naming: dict[str, str] = {}
        taken: set[str] = set()
        for consuming in (False, True):
            for name, dims in self.tensor_dims.items():
                for j, dim in enumerate(dims):
                    place = (name, j)
                    consumed = place in self.facts.consumed and place not in self.facts.produced
                    if consumed is not consuming:
                        continue
                    resolved = self.solver.resolve(dim)
                    for variable in atoms(resolved):
                        if variable not in naming:
                            label = self._label(name, consumed, resolved, variable)
                            naming[variable] = _free(label, taken)
        return naming

    def _label(self, tensor: str, consumed: bool, dim: Dim, variable: str) -> str:
        module, _, leaf = tensor.rpartition(".")
        label = f"{module or leaf}.{'in' if consumed else 'out'}"
        if isinstance(dim, Atom):
            return label
        return f"{label}.{self.solver.kinds[variable].replace(' ', '_')}"


def _free(label: str, taken: set[str]) -> str:
    """A label that is not taken yet, which it then is."""
    name, k = label, 1
    while name in taken:
        k += 1
        name = f"{label}.{k}"
    taken.add(name)
    return name


def _renamed(dim: Dim, naming: Mapping[str, str]) -> Dim:
    """`dim` over named axes."""
    if isinstance(dim, Atom):
        return Atom(naming[dim.axis])
    if isinstance(dim, Prod):
        return Prod(tuple(_renamed(f, naming) for f in dim.factors))
    if isinstance(dim, Sum):
        return Sum(tuple(_renamed(t, naming) for t in dim.terms))
    return dim


def _map_dims(value: Any, final: Any) -> Any:
    return mapped(
        lambda leaf: (
            replace(leaf, dim=final(leaf.dim))
            if isinstance(leaf, Extent | Pinned | Inverse)
            else leaf
        ),
        value,
    )


def _of_tensor(value: Value, operands: Sequence[Value]) -> Value:
    """The value, marked as a tensor of the network where it is one transposed, cast or indexed.

    So is a parameter that is scaled or shifted by others before it meets the data (a spectral norm,
    W + B A, a mask): it is used as what it was.
    """
    assert value.node is not None
    if value.still and reparametrises(value.node):
        same = [o for o in operands if o.tensor is not None and o.shape == value.shape]
        # W + Wᵀ has the rows and columns of one weight in the same place.
        if not same or len({o.tensor for o in same}) < len(same):
            return value
        return replace(value, tensor=same[0].tensor, places=same[0].places)
    source = operands[0] if operands else None
    if source is None or source.tensor is None or not moves_only(value.node):
        return value
    # Rules hand the dimension objects of their operands on, so identity tells which is which.
    place = {id(d): p for d, p in zip(source.dims, source.places, strict=True)}
    places = tuple(place.get(id(d)) for d in value.dims)
    return replace(value, tensor=source.tensor, places=places)


def _uniform(value: torch.Tensor, dim: int) -> bool:
    """Whether all positions along a dimension hold the same."""
    known = not value.is_meta and value.numel() > 0
    return known and bool((value == value.narrow(dim, 0, 1)).all())


def _hint(n: Any) -> int:
    if isinstance(n, int):
        return n
    if n.node.hint is not None:
        return int(n.node.hint)
    # A size that depends on values: any number will do that nothing else has by chance.
    known = n.node.shape_env.backed_var_to_val
    return int(n.node.expr.xreplace({s: known.get(s, _UNKNOWN) for s in n.node.expr.free_symbols}))


def _hints(shape: Sequence[Any]) -> tuple[int, ...]:
    return tuple([n if type(n) is int else _hint(n) for n in shape])


def _result(node: fx.Node) -> Any:
    value = node.meta.get("val")
    if isinstance(value, torch.Tensor):
        shape = _hints(value.shape)
        return Value(tuple(Fixed(n, "element") for n in shape), shape, node=node)
    return value


def _structure(model: nn.Module) -> nn.Module:
    """A copy of the module tree that shares the tensors: structure without more weights."""
    tables = (t for module in model.modules() for t in (module._parameters, module._buffers))
    return copy_module(model, {id(t): t for table in tables for t in table.values()})
