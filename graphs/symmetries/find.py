"""The largest group that acts on every axis, found by the operators between makers and readers.

Nothing here knows an architecture or a name: an axis is followed through the traced program, every
operator is asked by its rule what becomes of M x, and what is left of the general linear group is
the answer (`passing`, with the conditions that it collects on M):

    nothing asked               any invertible M, one for each unit of the axes that stand beside
    M⁻ᵀ = M                     rotations: a mean of squares, a tied weight that makes and reads
    M·1 = 1 as well             rotations that keep ones: a mean, a number added to all units
    an operator in the way      scales or permutations, with the reason
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from torch import fx

from graphs.axes.dims import all_atoms
from graphs.relate.structure import Structure
from graphs.symmetries.nodes import nodes_by_axis, still_nodes
from graphs.symmetries.passing.along import Along, Blocked
from graphs.symmetries.passing.states import Pending, Turned, Use
from graphs.symmetries.passing.visit import visit
from graphs.symmetries.positions import entries_beside
from graphs.symmetries.scales import gauges_of
from graphs.symmetries.shifts import way_of
from graphs.symmetries.values import Fold, Slot, Symmetry, Untie, Weight


def symmetries(net: Structure) -> Mapping[str, Symmetry]:
    """Axis name → the largest group that acts on it, and why it is not larger.

    Whether a scale is the same for all units is read from the values; on the meta device, where
    there are none, it is taken to differ.
    """
    nodes, still = nodes_by_axis(net), still_nodes(net.program.graph.nodes)
    return MappingProxyType({name: _of(net, name, nodes[name], still) for name in net.axes})


def symmetry(net: Structure, axis: str) -> Symmetry:
    """The largest group that acts on one axis.

    Raises:
        KeyError: there is no such axis.
    """
    net.axis(axis)
    return _of(net, axis, nodes_by_axis(net)[axis], still_nodes(net.program.graph.nodes))


def _of(net: Structure, name: str, nodes: Sequence[fx.Node], still: frozenset[fx.Node]) -> Symmetry:
    axis = net.axes[name]
    if axis.frozen is not None:
        return Symmetry(name, "identity", blocked=axis.frozen)
    along = Along(net, name, still)
    try:
        _follow(along, nodes)
        return _turning(along)
    except Blocked as reason:
        scales = bool(gauges_of(net, name, nodes))
        return Symmetry(name, "scales" if scales else "permutations", blocked=str(reason))


def _follow(along: Along, nodes: Iterable[fx.Node]) -> None:
    """Visit the operators in order.

    Raises:
        Blocked: one is in the way.
    """
    for node in nodes:
        given = {n: along.states[n] for n in node.all_input_nodes if n in along.states}
        if node.op == "get_attr":
            along.enter(node)
        elif node.op == "output" and given:
            raise Blocked("it is an output of the model")
        elif node.op == "call_function":
            try:
                along.leave(node, visit(along, node, given))
            except Blocked as reason:
                if node not in along.still:
                    raise
                # It may be a scale, or be used nowhere.
                along.leave(node, Turned({}, broken=str(reason)))


def _turning(along: Along) -> Symmetry:
    """The group of matrices that was found."""
    found, net = along.found, along.net
    orthogonal = "orthogonal" in found.needs or along.parity.contradicted
    folds, unties = _folds(along)
    _insist_on_all(along, folds)
    sides: dict[Slot, bool] = {}
    for slot in found.uses:
        sides[slot] = along.parity.find(found.sides[slot])[1]
    makes = [s for s in sides if s.dim in net.tensors[s.tensor].making]
    other = sides[makes[0]] if makes else False
    return Symmetry(
        along.axis,
        "rotations" if orthogonal else "invertible",
        per=_per(along),
        keeps_ones="ones" in found.needs,
        writers=tuple(s for s, side in sides.items() if side is other),
        readers=tuple(s for s, side in sides.items() if side is not other),
        folds=folds,
        unties=unties,
    )


def _insist_on_all(along: Along, folds: Iterable[Fold]) -> None:
    """Every tensor along the axis must have been met, each in one role only.

    Raises:
        Blocked: one was not, or one both turns and scales.
    """
    used = {slot.tensor for slot in along.found.uses}
    for name in used:
        if along.net.source.buffers.get(name) is False:
            raise Blocked(f"{name} is not saved with the model and would come back as it was")
        if not along.net.tensors[name].value.is_floating_point():
            raise Blocked(f"{name} holds no real numbers that could turn")
    folded = {name for f in folds for name in (f.scale, f.shift, f.mean, f.variance) if name}
    for name, tensor in along.net.tensors.items():
        if along.axis not in all_atoms(tensor.dims):
            continue
        if name in used and name in along.found.scales:
            raise Blocked(f"{name} scales its units one by one and is used in other ways as well")
        if name not in used | folded | along.found.scales:
            raise Blocked(f"{name} runs along it and is not used where it could turn")


def _per(along: Along) -> str | None:
    """An axis that stands beside this one in every value and every tensor that turns."""
    beside = (along.beside or frozenset()) - along.mixed
    tensors = [along.net.tensors[slot.tensor] for slot in along.found.uses]
    common = [n for n in along.net.axes if n in beside]
    return next((n for n in common if all(n in all_atoms(t.dims) for t in tensors)), None)


@dataclass(frozen=True)
class _Way:
    """What one use of a weight makes of it: nothing, or a fold."""

    fold: Pending | None
    into: str


def _folds(along: Along) -> tuple[tuple[Fold, ...], tuple[Untie, ...]]:
    """The scales to be folded, and the tied weights that stand in their way.

    Raises:
        Blocked: a weight meets a scale in one place, and something else in another.
    """
    weights: dict[Pending, list[tuple[Weight, str]]] = {}
    unties: list[Untie] = []
    by_dim: dict[tuple[str, int], list[Use]] = {}
    for slot, uses in along.found.uses.items():
        by_dim.setdefault((slot.tensor, slot.dim), []).extend(uses)
    for (name, dim), uses in by_dim.items():
        ways = {_Way(use.fold, use.into) for use in uses}
        scaled = [use for use in uses if use.fold is not None]
        if len(ways) > 1:
            unties += _unties(along.net, name, uses)
        for use in scaled:
            assert use.fold is not None
            place = Weight(_name_of(along.net, name, use) if len(ways) > 1 else name, dim, use.bias)
            here = weights.setdefault(use.fold, [])
            if (place, use.into) not in here:
                here.append((place, use.into))
    shared = [scale for scale, n in Counter(p.scale for p in weights if p.scale).items() if n > 1]
    if shared:
        raise Blocked(f"{shared[0]} is shared by norms with other shifts or statistics")
    found = tuple(_fold(along.net, pending, places) for pending, places in weights.items())
    return found, tuple(dict.fromkeys(unties))


def _fold(net: Structure, pending: Pending, places: list[tuple[Weight, str]]) -> Fold:
    sides = {into for _, into in places}
    if len(sides) > 1:
        raise Blocked(f"{pending.scale} is shared by scales before and behind weights")
    fold = Fold(
        pending.scale,
        pending.offset,
        pending.shift,
        "readers" if "readers" in sides else "writers",
        tuple(weight for weight, _ in places),
        pending.mean,
        pending.variance,
        pending.epsilon,
    )
    way_of(net, fold)
    for name in (n for n in (fold.scale, fold.shift, fold.variance) if n is not None):
        for w in fold.weights:
            tensor = w.tensor if w.tensor in net.tensors else net.source.aliases[w.tensor]
            if entries_beside(net, name, tensor, w.dim) is None:
                raise Blocked(f"{name} and {w.tensor}, which reads it, are laid out in two ways")
    return fold


def _name_of(net: Structure, tensor: str, use: Use) -> str:
    """The state-dict name under which a module uses a tied tensor."""
    path = net.program.modules.get(use.node.name, "")
    names = [alias for alias, name in net.source.aliases.items() if name == tensor]
    here = [name for name in names if name.rpartition(".")[0] == path]
    return here[0] if here else tensor


def _unties(net: Structure, tensor: str, uses: Sequence[Use]) -> list[Untie]:
    """What has to be untied so that every name of a tensor is used in one way."""
    ways: dict[str, set[_Way]] = {}
    for use in uses:
        ways.setdefault(_name_of(net, tensor, use), set()).add(_Way(use.fold, use.into))
    if any(len(way) > 1 for way in ways.values()) or len(ways) == 1:
        fold = next(use.fold for use in uses if use.fold is not None)
        raise Blocked(
            f"{tensor} meets the scale {fold.scale} in one place, and in another it does not"
        )
    kept = ways.get(tensor, {_Way(None, "readers")})
    count = net.tensors[tensor].value.numel()
    return [
        Untie(name, tensor, count) for name, way in ways.items() if name != tensor and way != kept
    ]
