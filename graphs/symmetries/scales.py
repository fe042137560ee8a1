"""Scale gauges: scale the units of an axis where they are made, and undo it where they are read.

With a factor c_u for every unit u of an axis, each tensor and each value of the program scales
along it by c_u^d, d its degree. Operators relate degrees linearly:

    relu, max pool, views     d_out = d_in                 (positively homogeneous of degree one)
    add                       d_out = d_a = d_b
    mul, div                  d_out = d_a ± d_b
    linear, conv, matmul      as mul, and d_a + d_b = 0 over what is summed away
    attention                 d_query + d_key = 0, d_out = d_value
    norms                     d_in = 0, d_out = d_scale = d_shift
    anything else             0 = d_in = d_out

so the gauges of an axis are the null space of one small matrix. A layer of rectified units has one,
an attention head has two (query against key, value against output), a residual stream behind norms
has none. A gauge is `signed` where no operator on its way tells the sign of what it scales (the
ungated half of a GLU): then any number but zero is a scale, else positive ones are.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import fx

from graphs.axes.dims import atoms, unit_index
from graphs.relate.structure import Structure
from graphs.rules.registry import known_of, operator_name
from graphs.symmetries.nodes import dims_of, nodes_by_axis
from graphs.tools.arguments import real_numbers

# Operators whose equations this file writes down, by the places of their operands.
_LINEAR = ("linear", "conv1d", "conv2d", "conv3d")

Place = tuple[str, int]  # (tensor or node, dimension)
Equation = dict[Place, float]
Degrees = dict[Place, float]  # of tensors
Net = TypeVar("Net", bound=Structure)


@dataclass(frozen=True)
class Gauge:
    """One way to scale the units of an axis.

    Args:
        degrees: (tensor name, dimension) → d: its slice of unit u is multiplied by c_u^d.
        signed: whether c_u may be negative.
    """

    degrees: Mapping[Place, float]
    signed: bool = False


class _Axis:
    """The equations of one axis."""

    def __init__(self, net: Structure, axis: str) -> None:
        self.net, self.axis = net, axis
        self.equations: list[Equation] = []
        self.rectified: set[Place] = set()

    def places(self, node: Any) -> list[Place]:
        """Where a value runs along the axis."""
        if not isinstance(node, fx.Node):
            return []
        name = str(node.target) if node.op == "get_attr" else node.name
        dims = dims_of(self.net, node)
        return [(name, i) for i, dim in enumerate(dims) if self.axis in atoms(dim)]

    def state(self, *terms: tuple[Place, float]) -> None:
        """The sum of degree × factor is zero."""
        equation: Equation = {}
        for place, factor in terms:
            equation[place] = equation.get(place, 0.0) + factor
        self.equations.append(equation)

    def zero(self, *nodes: Any) -> None:
        for node in nodes:
            for place in self.places(node):
                self.state((place, 1.0))

    def visit(self, node: fx.Node) -> None:
        name = operator_name(node.target) if node.op == "call_function" else node.op
        known = known_of(node.target)
        homogeneous = known.homogeneous or node.target is operator.getitem
        plain = all(len(self.places(n)) < 2 for n in (node, *node.all_input_nodes))
        mutable = getattr(getattr(node.target, "_schema", None), "is_mutable", False)
        if name in _LINEAR:
            self._linear(node)
        elif name == "scaled_dot_product_attention" and plain:
            q, k, v = node.args[:3]
            self._sum_is_zero([*self.places(q), *self.places(k)])
            self._product(node, [*self.places(v)])
            self.zero(*(n for n in node.all_input_nodes if n not in (q, k, v)))
        elif name in ("mul", "multiply") and plain and not mutable:
            self._product(node, [p for n in node.args for p in self.places(n)])
        elif name in ("div", "divide") and plain and not mutable and len(node.args) == 2:
            self._product(node, self.places(node.args[0]), self.places(node.args[1]))
        elif name in ("matmul", "mm", "bmm") and plain:
            self._matmul(node)
        elif known.normalises:
            self._norm(node)
        elif name == "embedding" and plain:
            self._product(node, self.places(node.args[0]))
        elif homogeneous and plain and not self._mixes(node, name):
            read = [p for n in node.all_input_nodes for p in self.places(n)]
            if not known.turns and node.target is not operator.getitem:
                self.rectified.update(self.places(node))
            for place in read:
                self._equal(self.places(node), [place])
            if not read:  # copies of something without units
                self.zero(node)
        else:
            self.zero(node, *node.all_input_nodes)

    def _mixes(self, node: fx.Node, name: str) -> bool:
        """Whether something that does not scale along the axis is joined to what does."""
        numbers = [a for a in node.args[:2] if isinstance(a, int | float)]
        joined = [n for n in node.all_input_nodes if not self.places(n)]
        return name in ("add", "sub") and bool(numbers or joined)

    def _equal(self, made: list[Place], read: list[Place]) -> None:
        self.state(*((p, 1.0) for p in made), *((p, -1.0) for p in read))

    def _sum_is_zero(self, places: list[Place]) -> None:
        if places:
            self.state(*((p, 1.0) for p in places))

    def _product(
        self, node: fx.Node, factors: list[Place], divisors: list[Place] | None = None
    ) -> None:
        """D_out = Σ d_factors − Σ d_divisors, all zero where the result does not run along."""
        made = self.places(node)
        if not made:
            for place in (*factors, *(divisors or ())):
                self.state((place, 1.0))
            return
        terms = [(p, -1.0) for p in factors] + [(p, 1.0) for p in divisors or ()]
        self.state(*((p, 1.0) for p in made), *terms)

    def _linear(self, node: fx.Node) -> None:
        """(out, in, taps) of a linear map; with groups, `in` is inside a group."""
        x, weight, *rest = node.args
        given = {dim: (name, dim) for name, dim in self.places(weight)}
        out, read = given.get(0), given.get(1)
        made, seen = self.places(node), self.places(x)
        bias = rest[0] if rest else node.kwargs.get("bias")
        if len(made) > 1 or len(seen) > 1:
            return self.zero(node, x, weight, bias)
        if read is not None:
            self._sum_is_zero([*seen, read])
            seen = []
        self._product(node, [*([out] if out else []), *seen])
        if isinstance(bias, fx.Node) and self.places(bias):
            self._equal(made, self.places(bias))
        elif isinstance(bias, fx.Node):
            self.zero(node)
        return None

    def _matmul(self, node: fx.Node) -> None:
        a, b = node.args[:2]
        ranks = [len(dims_of(self.net, n)) for n in (a, b)]
        left, right = self.places(a), self.places(b)
        inner = [p for p in left if p[1] == ranks[0] - 1]
        inner += [p for p in right if p[1] == max(ranks[1] - 2, 0)]
        if inner:
            if len(left) + len(right) == len(inner):
                return self._sum_is_zero(inner)
            return self.zero(node, a, b)
        return self._product(node, [*left, *right])

    def _norm(self, node: fx.Node) -> None:
        names = [argument.name for argument in node.target._schema.arguments]
        given = dict(zip(names, node.args, strict=False)) | node.kwargs
        affine = [given.get(name) for name in ("weight", "bias")]
        affine = [n for n in affine if isinstance(n, fx.Node)]
        self.zero(*(n for n in node.all_input_nodes if n not in affine))
        if not affine or not all(self.places(n) for n in affine):
            return self.zero(node, *affine)
        for n in affine:
            self._equal(self.places(node), self.places(n))
        return None

    def solutions(self) -> list[Gauge]:
        """Independent gauges, each on as few tensors as can be."""
        names = {p: i for i, p in enumerate(dict.fromkeys(p for e in self.equations for p in e))}
        tensors = [p for p in names if p[0] in self.net.tensors]
        if not tensors:
            return []
        matrix = torch.zeros(len(self.equations), len(names), dtype=torch.float64)
        for i, equation in enumerate(self.equations):
            for place, factor in equation.items():
                matrix[i, names[place]] += factor
        _, values, basis = torch.linalg.svd(matrix, full_matrices=True)
        rank = int((values > 1e-9 * values.max().clamp_min(1)).sum())
        # Independent at the tensors: a value that no tensor scales with is no gauge.
        order = [names[p] for p in tensors] + [i for p, i in names.items() if p not in tensors]
        places = [*tensors, *(p for p in names if p not in tensors)]
        rows = _reduced(basis[rank:][:, order], len(tensors))
        return [self._gauge(dict(zip(places, row.tolist(), strict=True))) for row in rows]

    def _gauge(self, degrees: Degrees) -> Gauge:
        found = {p: d for p, d in degrees.items() if abs(d) > 1e-9}
        whole = all(abs(d - round(d)) < 1e-9 for d in found.values())
        signed = whole and self.rectified.isdisjoint(found)
        kept = {p: d for p, d in found.items() if p[0] in self.net.tensors}
        return Gauge(kept, signed)


def _reduced(rows: torch.Tensor, columns: int) -> torch.Tensor:
    """Rows in reduced echelon form over the first columns; those that vanish there are left out."""
    rows, done = rows.clone(), 0
    for column in range(columns):
        if done == len(rows):
            break
        pivot = done + int(rows[done:, column].abs().argmax())
        if float(rows[pivot, column].abs()) < 1e-9:
            continue
        rows[[done, pivot]] = rows[[pivot, done]]
        rows[done] /= rows[done, column].clone()
        others = [i for i in range(len(rows)) if i != done]
        rows[others] -= rows[others, column, None] * rows[done]
        done += 1
    return rows[:done]


def gauges(net: Structure) -> dict[str, list[Gauge]]:
    """Axis → independent scale gauges; frozen axes are left out.

    Args:
        net: a network of the traced shapes.
    """
    nodes = nodes_by_axis(net)
    free = [axis.name for axis in net.axes.values() if axis.frozen is None]
    return {name: gauges_of(net, name, nodes[name]) for name in free}


def gauges_of(net: Structure, axis: str, nodes: Sequence[fx.Node]) -> list[Gauge]:
    """The independent scale gauges of one axis, from the nodes that it runs through."""
    equations = _Axis(net, axis)
    for node in nodes:
        if node.op in ("call_function", "output"):
            equations.visit(node)
    return equations.solutions()


def rescale(net: Net, axis: str, scales: torch.Tensor, gauge: int = 0) -> Net:
    """The same function with units scaled where they are made, and back where they are read.

    Args:
        net: the network.
        axis: name of an axis that has a gauge.
        scales: one number for each unit.
        gauge: which of its gauges (`gauges`).

    Raises:
        KeyError: there is no such axis.
        ValueError: the axis has no such gauge, or a number is none of its scales.
    """
    count = net.axis(axis).size
    known = gauges(net).get(axis, [])
    if not isinstance(gauge, int) or isinstance(gauge, bool) or not 0 <= gauge < len(known):
        raise ValueError(f"{axis} has {len(known)} scale gauges (got number {gauge!r})")
    exact = real_numbers(scales, f"{axis}: expected {count} scales").detach().to(torch.float64)
    if tuple(exact.shape) != (count,):
        raise ValueError(f"{axis}: expected {count} scales (got shape {tuple(exact.shape)})")
    signed = known[gauge].signed
    fine = exact.isfinite() & ((exact != 0) if signed else (exact > 0))
    if not bool(fine.all()):
        what = "finite and not zero" if signed else "finite and positive"
        raise ValueError(f"{axis}: scales must be {what} (got {exact[~fine][0]:g})")
    return scaled(net, axis, known[gauge].degrees, exact)


def scaled(net: Net, axis: str, degrees: Mapping[Place, float], factors: torch.Tensor) -> Net:
    """The network with slices of an axis scaled by factor^degree, in float64; dtypes stay.

    Args:
        net: the network.
        axis: name of the axis.
        degrees: of its tensors.
        factors: one number for each unit.
    """
    values: dict[str, torch.Tensor] = {}
    for (name, i), degree in degrees.items():
        tensor = net.tensors[name]
        value = values.get(name, tensor.value.to(torch.float64))
        index = unit_index(tensor.dims[i], axis, net.axes)
        power = round(degree) if abs(degree - round(degree)) < 1e-9 else degree
        along = torch.where(index >= 0, factors[index.clamp_min(0)] ** power, 1.0)
        shape = [-1 if d == i else 1 for d in range(value.dim())]
        values[name] = value * along.view(shape).to(value)
    return net.replace({n: v.to(net.tensors[n].value.dtype) for n, v in values.items()})
