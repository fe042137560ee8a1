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
has none. They are found from the program for the laws and their certificate only.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from graphs import Axis, Network
from graphs.axes.dims import atoms, unit_index
from graphs.rules.registry import known_of, operator_name
from metaprune.testing.checking import Checked, explain, gap, search
from metaprune.testing.subject import Subject, dims_of

# Operators whose equations this file writes down, by the places of their operands.
_LINEAR = ("linear", "conv1d", "conv2d", "conv3d")

Place = tuple[str, int]  # (tensor or node, dimension)
Equation = dict[Place, float]
Degrees = dict[Place, float]  # of tensors


class _Axis:
    """The equations of one axis."""

    def __init__(self, net: Network, axis: str) -> None:
        self.net, self.axis = net, axis
        self.equations: list[Equation] = []

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

    def solutions(self) -> list[Degrees]:
        """Independent gauges, as degrees of tensors."""
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
        free = basis[rank:]
        # Independent at the tensors: a value that no tensor scales with is no gauge.
        _, kept, at = torch.linalg.svd(free[:, [names[p] for p in tensors]], full_matrices=False)
        rows = at[kept > 1e-9]
        return [
            {p: float(d) for p, d in zip(tensors, row, strict=True) if abs(d) > 1e-9}
            for row in rows / rows.abs().amax(1, keepdim=True)
        ]


def gauges(net: Network) -> dict[str, list[Degrees]]:
    """Axis → independent scale gauges: (tensor name, dimension) → degree.

    Args:
        net: a network of the traced shapes; frozen axes are left out.
    """
    nodes: dict[str, list[fx.Node]] = {}
    for node in net.program.graph.nodes:
        around = (node, *node.all_input_nodes)
        names = {a for n in around for dim in dims_of(net, n) for a in atoms(dim)}
        if node.op in ("call_function", "output"):
            for name in names:
                nodes.setdefault(name, []).append(node)
    found = {}
    for axis in net.axes.values():
        if axis.frozen is None:
            equations = _Axis(net, axis.name)
            for node in nodes.get(axis.name, ()):
                equations.visit(node)
            found[axis.name] = equations.solutions()
    return found


def scaled(
    net: Network, axis: str, degrees: Mapping[Place, float], factors: torch.Tensor
) -> Network:
    """The network with slices of an axis scaled by factor^degree.

    Args:
        net: the network.
        axis: name of the axis.
        degrees: of its tensors.
        factors: one positive number for each unit.
    """
    values: dict[str, torch.Tensor] = {}
    for (name, i), degree in degrees.items():
        tensor = net.tensors[name]
        index = unit_index(tensor.dims[i], axis, net.axes)
        along = torch.where(index >= 0, factors[index.clamp_min(0)] ** degree, 1.0)
        shape = [-1 if d == i else 1 for d in range(tensor.value.dim())]
        values[name] = values.get(name, tensor.value) * along.view(shape).to(tensor.value)
    return net.replace(values)


def scale_law(subject: Subject, tolerance: float) -> tuple[Checked, dict[str, int]]:
    """Scale every axis along a random one of its gauges, all at once; the function must stay.

    Returns:
        What was found, and the number of independent factors by kind of axis.
    """
    net = subject.net
    known = gauges(net)
    counts: dict[str, int] = {}
    chosen: dict[str, tuple[Degrees, torch.Tensor]] = {}
    for name, basis in known.items():
        if not basis:
            continue
        axis = net.axes[name]
        counts[axis.kind] = counts.get(axis.kind, 0) + len(basis) * axis.size
        mixed: Degrees = {}
        for degrees in basis:
            weight = float(torch.rand(1, generator=subject.generator)) + 0.5
            for place, degree in degrees.items():
                mixed[place] = mixed.get(place, 0.0) + weight * degree
        factors = torch.rand(axis.size, generator=subject.generator, dtype=torch.float64) + 0.5
        chosen[name] = mixed, factors
    if not chosen:
        return Checked(0.0, 0), counts
    call = subject.same_shape()
    expected = call(net)

    def deviation(axes: Any) -> float:
        moved = net
        for axis in axes:
            moved = scaled(moved, axis.name, *chosen[axis.name])
        return gap(expected, call(moved))

    axes: list[Axis] = [net.axes[name] for name in chosen]

    def sentence(culprits: Any, by: float) -> str:
        happened = f"changed the output by {by:.3g}"
        hint = "an operator on the way that does not scale with its operand"
        return explain(net, culprits, "scaling", happened, None, hint)

    return search(iter([axes]), deviation, tolerance, sentence), counts
