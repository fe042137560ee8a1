"""One pass over a program: what its values run along, as every operator's rule states it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from graphs.axes.dims import Atom, Dim, Fixed, atoms
from graphs.axes.unify import Unifier
from graphs.calls.export import attribute
from graphs.calls.names import Names
from graphs.calls.nested import leaves, mapped
from graphs.calls.recording import Recorded
from graphs.rules import Value, lookup
from graphs.rules.context import Context, Facts, describe
from graphs.rules.registry import known_of, operator_name
from graphs.rules.selection.routing import follow

# What regroups positions, and leaves them where the shape stays.
_REGROUPS = ("flatten", "view", "reshape")
# Stands for a number of positions that is known at run time only (a prime).
_UNKNOWN = 7919


class Walk:
    """One pass over the graph: every node gets dimensions, every operator states its relations.

    Args:
        module: the program, recorded or exported.
        names: of the tensors of the model.
        beside: a walk over another program of the same tensors, which then share their dimensions.

    Attributes:
        solver: which dimensions are one, and why some are left alone.
        facts: what the rules state besides.
        env: node → what it gives.
        constants: tensors that the forward itself makes, and branches of torch.cond, by target.
        paths: node name → path of the module that makes the call.
        tensor_dims: tensor name → its dimensions.
        batch: number of examples in the inputs.
    """

    def __init__(
        self, module: Recorded | fx.GraphModule, names: Names, beside: Walk | None = None
    ) -> None:
        self.module, self.names, self.beside = module, names, beside
        self.solver: Unifier = Unifier() if beside is None else beside.solver
        self.facts = Facts()
        self.env: dict[fx.Node, Any] = {}
        self.constants: dict[str, Any] = {}
        self.paths: dict[str, str] = {}
        self.tensor_dims: dict[str, tuple[Dim, ...]] = (
            {n: tuple(map(self.solver.fresh, v.shape)) for n, v in names.values.items()}
            if beside is None
            else beside.tensor_dims
        )
        self.used: set[str] = set()
        self.batch = 1

    @property
    def returned(self) -> str:
        """Why what the program returns is left alone."""
        return "output of the model" + ("" if self.beside is None else " in training")

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
                        self.solver.freeze(dim, self.returned)

    def settle(self, training: Walk | None) -> None:
        """Leave alone what the forward does not use, and what cannot be cut.

        Args:
            training: the walk over the forward in training mode, where that is another one.
        """
        live = {a for name in self.used for d in self.tensor_dims[name] for a in self._atoms(d)}
        for name, dims in self.tensor_dims.items():
            if name not in self.used:
                trained = training is not None and name in training.used
                why = "only training uses it" if trained else "the traced forward does not use it"
                for variable in {a for dim in dims for a in self._atoms(dim)} - live:
                    self.solver.freeze(Atom(variable), why)
            elif name in self.names.buffers and not self.names.buffers[name]:
                # Made anew by the class, at any width, it is the same where its units are alike.
                for i, dim in enumerate(dims):
                    if not _uniform(self.names.values[name], i):
                        reason = f"{name} is not saved with the model and would come back uncut"
                        self.solver.freeze(dim, reason)

    def _atoms(self, dim: Dim) -> tuple[str, ...]:
        return atoms(self.solver.resolve(dim))

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
        training = self.beside is not None
        context = Context(node, self.solver, self.facts, path, shapes, training)
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
        values = (self._of_tensor(values[0], operands), *values[1:])
        numbered = follow(context, operands)
        if numbered is not None:
            which, units = numbered
            values = tuple(
                replace(value, numbers=units) if i == which else value
                for i, value in enumerate(values)
            )
        for value in values:
            assert len(value.dims) == len(value.shape), f"{node}: {value}"
        return values if isinstance(node.meta["val"], tuple | list) else values[0]

    def _of_tensor(self, value: Value, operands: Sequence[Value]) -> Value:
        """The value, marked as a tensor of the network where it is one transposed, cast or indexed.

        So is a parameter that is scaled or shifted by others before it meets the data (a spectral
        norm, W + B A, a mask): it is used as what it was.
        """
        assert value.node is not None
        known = known_of(value.node.target)
        if value.still and known.shifts:
            same = [o for o in operands if o.tensor is not None and o.shape == value.shape]
            # W + Wᵀ has the rows and columns of one weight in the same place.
            if not same or len({o.tensor for o in same}) < len(same):
                return value
            # A mask that is a buffer is none of the weights.
            trained = (o for o in same if o.tensor in self.names.parameters)
            of = next(trained, same[0])
            return replace(value, tensor=of.tensor, places=of.places)
        source = operands[0] if operands else None
        if source is None or source.tensor is None:
            return value
        if value.shape == source.shape and operator_name(value.node.target) in _REGROUPS:
            return replace(value, tensor=source.tensor, places=source.places)  # of a matrix
        if not known.entries:
            return value
        # Rules hand the dimension objects of their operands on: identity tells which is which.
        place = {id(d): p for d, p in zip(source.dims, source.places, strict=True)}
        places = tuple(place.get(id(d)) for d in value.dims)
        return replace(value, tensor=source.tensor, places=places)

    def _operand(self, value: Any) -> Any:
        if not isinstance(value, fx.Node):
            return value
        held = self.env[value]
        if isinstance(held, torch.SymInt):
            return _hint(held)
        return held


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
