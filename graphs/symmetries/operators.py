"""What becomes of a turned value at an operator: one function for each word of `turns=`.

Every function takes the axis, the node and the states of its operands that run along the axis, and
returns the state of the result; None where that does not run along it. It raises `Blocked` where no
matrix, or none that it can tell of, may pass.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from graphs.axes.dims import Sum, atoms, size
from graphs.program.rescale import parameter_of
from graphs.rules.context import describe
from graphs.rules.labels import named_arguments
from graphs.rules.registry import known_of, operator_name
from graphs.symmetries.along import Along, Blocked, numbers_of
from graphs.symmetries.states import Pending, Same, Squared, State, Turned, parts

Given = Mapping[fx.Node, State]
Places = dict[int, tuple[int, ...]]
Handler = Callable[[Along, fx.Node, Given], State | None]

_ONES = frozenset(("ones", "orthogonal"))
_ORTHOGONAL = frozenset(("orthogonal",))
_PRIMES = (2, 3, 5, 7, 11, 13)


def visit(axis: Along, node: fx.Node, given: Given) -> State | None:
    """The state of a call's result.

    Raises:
        Blocked: the operator does not commute with the matrices of any group, or is not known to.
    """
    for state in given.values():
        if isinstance(state, Turned) and state.broken:
            raise Blocked(state.broken)
    if node.target is operator.getitem:
        return piece(axis, node, given)
    word = known_of(node.target).turns
    squared = any(isinstance(state, Squared) for state in given.values())
    if squared and word != "reduce":
        if known_of(node.target).entries == "same":
            return next(iter(given.values()))
        raise Blocked(f"squares of its units are used one by one: {describe(node)}")
    if word not in HANDLERS:
        raise Blocked(f"no matrix passes {describe(node)}")
    return HANDLERS[word](axis, node, given)


def _turned(given: Given) -> list[tuple[fx.Node, Turned]]:
    return [(node, state) for node, state in given.items() if isinstance(state, Turned)]


def _spent(axis: Along, node: fx.Node, operands: list[tuple[fx.Node, Turned]]) -> frozenset[Any]:
    """Slots of the result: of parameters alone they stay open, else they are settled to turn."""
    if node in axis.still:
        return frozenset().union(*(state.slots for _, state in operands))
    for _, state in operands:
        if state.slots:
            axis.spend(state, node)
    return frozenset()


def _needs(operands: list[tuple[fx.Node, Turned]], more: frozenset[str]) -> frozenset[str]:
    return more.union(*(state.needs for _, state in operands))


def _kept(node: fx.Node, state: Turned) -> frozenset[Any]:
    """The makers of a value, as long as nothing but this operator sees it."""
    return state.makers if len(node.users) == 1 else frozenset()


def _broadcast(axis: Along, node: fx.Node, operand: fx.Node, state: Turned) -> Places:
    """Places in the result of operands that are aligned at the right."""
    shift = axis.rank(node) - axis.rank(operand)
    return {i + shift: sides for i, sides in state.places.items()}


def each(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Copies of entries, or a linear map of other dimensions."""
    operands = _turned(given)
    made = axis.places(node)
    if not operands:
        zero = bool(given) and all(isinstance(s, Same) and s.zero for s in given.values())
        return Same(zero) if made else None
    if len(operands) > 1:
        raise Blocked(f"no matrix passes {describe(node)}")
    operand, state = operands[0]
    slots = _spent(axis, node, operands) if made else frozenset()
    if not made:
        if known_of(node.target).picks != "place":
            raise Blocked(f"no matrix passes {describe(node)}")
        return None
    places = _moved(axis, node, operand, state, made)
    makers = _kept(node, state)
    return Turned(places, slots, state.needs, state.pending, makers)


def _moved(axis: Along, node: fx.Node, operand: fx.Node, state: Turned, made: list[int]) -> Places:
    """Where the places of an operand are in the result."""
    if len(state.places) > 1:
        return _transposed(axis, node, operand, state)
    ((place, sides),) = state.places.items()
    counts = [parts(axis.dims(node)[i], axis.axis) for i in made]
    if all(count == len(sides) for count in counts):
        return dict.fromkeys(made, sides)
    if sum(counts) == len(sides):
        rest = iter(sides)
        return {i: tuple(next(rest) for _ in range(n)) for i, n in zip(made, counts, strict=True)}
    start = named_arguments(node).get("start")
    if len(made) == 1 and operator_name(node.target) in ("slice", "narrow"):
        whole = axis.dims(operand)[place]
        first = _parts_before(axis, whole, int(start or 0))
        if first is not None:
            return {made[0]: sides[first : first + counts[0]]}
    raise Blocked(f"parts of it are laid out in another way by {describe(node)}")


def _parts_before(axis: Along, dim: Any, position: int) -> int | None:
    """Parts of a concatenation that lie before a position; None where it is no seam."""
    if position < 0:
        position += size(dim, axis.net.source.axes)
    before = 0
    for term in dim.terms if isinstance(dim, Sum) else (dim,):
        if position <= 0:
            break
        position -= size(term, axis.net.source.axes)
        before += parts(term, axis.axis)
    return before if position == 0 else None


def _transposed(axis: Along, node: fx.Node, operand: fx.Node, state: Turned) -> Places:
    """Places of a matrix over one axis twice, which only its place tells apart."""
    if not known_of(node.target).entries:
        raise Blocked(f"it meets itself at {describe(node)}")
    probe = torch.empty(_PRIMES[: axis.rank(operand)], device="meta")
    rest = [probe if a is operand else a for a in node.args]
    order = tuple(node.target(*rest, **node.kwargs).shape)
    return {order.index(_PRIMES[i]): sides for i, sides in state.places.items()}


def piece(axis: Along, node: fx.Node, given: Given) -> State | None:
    """One of several results, whose dimensions stand one after another."""
    operand = node.args[0]
    assert isinstance(operand, fx.Node)
    state = given.get(operand)
    if not isinstance(state, Turned):
        return Same() if axis.places(node) else None
    before = sum(len(v.shape) for v in operand.meta["val"][: node.args[1]])
    here = range(before, before + axis.rank(node))
    places = {i - before: sides for i, sides in state.places.items() if i in here}
    return replace(state, places=places, makers=frozenset()) if places else None


def add(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Sums: all that runs along the axis turns alike, what does not is a multiple of ones."""
    operands = _turned(given)
    if len(operands) == 2:
        shifted = _shifted(axis, node, operands)
        if shifted is not None:
            return shifted
    operands = [(n, axis.settled(node, s)) for n, s in operands]
    if not operands:
        return _same(node, given)
    places = _broadcast(axis, node, *operands[0])
    for operand, state in operands[1:]:
        for place, sides in _broadcast(axis, node, operand, state).items():
            if place not in places:
                raise Blocked(f"it meets itself at {describe(node)}")
            axis.relate(node, places[place], sides)
    others = [n for n in node.args[:2] if isinstance(n, fx.Node) and n not in dict(operands)]
    moved = [n for n in others if not (isinstance(s := given.get(n), Same) and s.zero)]
    moved = [n for n in moved if not isinstance(given.get(n), Turned)]
    needs = _ONES if moved or any(numbers_of(node)) else frozenset()
    slots = _spent(axis, node, operands)
    return Turned(places, slots, _needs(operands, needs))


def _shifted(axis: Along, node: fx.Node, operands: list[tuple[fx.Node, Turned]]) -> Turned | None:
    """γ x + β, spelled out, where γ waits to be folded; None where this is no such sum."""
    for (x, state), (other, added) in (operands, operands[::-1]):
        fold = state.pending
        if fold is None or fold.shift or fold.mean or x in axis.still or other not in axis.still:
            continue
        found = parameter_of(other)
        if found is None or found[1] or node.kwargs or not added.slots:
            continue
        axis.found.scales.add(found[0])
        places = _broadcast(axis, node, x, state)
        return Turned(places, pending=replace(fold, shift=found[0]), makers=_kept(node, state))
    return None


def _same(node: fx.Node, given: Given) -> State | None:
    held = [s for s in given.values() if isinstance(s, Same)]
    return Same(all(s.zero for s in held)) if held else None


def multiply(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Products with what does not run along the axis, squares, and scales of norms."""
    operands = _turned(given)
    if not operands:
        return _same(node, given)
    if node.args[0] is node.args[1]:
        return square(axis, node, given)
    if len(operands) == 2:
        still = [o for o in operands if o[0] in axis.still]
        moved = [o for o in operands if o[0] not in axis.still]
        if len(still) != 1:
            raise Blocked(f"its units are multiplied one by one by {describe(node)}")
        return _scaled(axis, node, moved[0], still[0][0])
    operand, state = operands[0]
    slots = _spent(axis, node, operands)
    makers = _kept(node, state)
    return Turned(_broadcast(axis, node, operand, state), slots, state.needs, state.pending, makers)


def _scaled(axis: Along, node: fx.Node, operand: tuple[fx.Node, Turned], factor: fx.Node) -> Turned:
    """A value whose units are scaled by a parameter."""
    x, state = operand
    if state.pending is not None:
        state = axis.settled(node, state)
    places, makers = _broadcast(axis, node, x, state), _kept(node, state)
    found = parameter_of(factor)
    if found is None:
        raise Blocked(f"its units are multiplied one by one by {describe(node)}")
    name, offset = found
    axis.found.scales.add(name)
    value = axis.value(name)
    if value is not None and uniform(value):
        return Turned(places, makers=makers)
    tensor = axis.net.tensors.get(name)
    if tensor is None or tensor.value.numel() != axis.net.axes[axis.axis].size:
        raise Blocked(f"the scale {name} runs along other axes as well")
    return Turned(places, pending=Pending(name, offset, None, describe(node)), makers=makers)


def uniform(value: torch.Tensor) -> bool:
    """Whether all entries are the same number."""
    return value.numel() > 0 and bool((value == value.flatten()[0]).all())


def divide(axis: Along, node: fx.Node, given: Given) -> State | None:
    """A quotient by what does not run along the axis."""
    operands = _turned(given)
    if not operands:
        return _same(node, given)
    if len(operands) > 1 or operands[0][0] is not node.args[0]:
        raise Blocked(f"its units are divided one by one by {describe(node)}")
    return multiply(axis, node, given)


def square(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Squares, of which only the sum over all units stays."""
    exponent = node.args[1] if operator_name(node.target) == "pow" else 2
    operands = _turned(given)
    if not operands:
        return _same(node, given)
    if exponent != 2 or len(operands) != 1 or operands[0][1].pending:
        raise Blocked(f"no matrix passes {describe(node)}")
    if node in axis.still:
        raise Blocked(f"no matrix passes {describe(node)}")
    _spent(axis, node, operands)
    return Squared(frozenset(_broadcast(axis, node, *operands[0])))


def join(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Values side by side turn alike."""
    operands = [(n, axis.settled(node, s)) for n, s in _turned(given)]
    if not operands:
        return _same(node, given)
    for operand, state in given.items():
        plain = isinstance(state, Same) and not state.zero
        if plain and operand.meta["val"].is_floating_point():
            raise Blocked(f"equal numbers stand beside it at {describe(node)}")
    made = axis.places(node)
    slots = _spent(axis, node, operands)
    places: Places = {}
    whole = [parts(axis.dims(node)[i], axis.axis) for i in made]
    sides = [side for _, state in operands for s in state.places.values() for side in s]
    if len(made) == 1 and whole[0] == len(sides) and len(operands) > 1 and whole[0] > 1:
        places[made[0]] = tuple(sides)
    else:
        first = list(operands[0][1].places.values())
        if len(first) != 1 or len(made) != 1:
            raise Blocked(f"it meets itself at {describe(node)}")
        for _, state in operands[1:]:
            for other in state.places.values():
                axis.relate(node, first[0], other)
        places[made[0]] = first[0]
    return Turned(places, slots, _needs(operands, frozenset()))


def choose(axis: Along, node: fx.Node, given: Given) -> State | None:
    """One of two values by a condition that is the same for all units."""
    condition = node.args[0] if operator_name(node.target) == "where" else node.args[1]
    if isinstance(given.get(condition), Turned):
        raise Blocked(f"no matrix passes {describe(node)}")
    held = [a for a in (*node.args, *node.kwargs.values()) if a is not condition]
    other = [
        a
        for a in held
        if (isinstance(a, int | float) and a != 0)
        or (
            isinstance(a, fx.Node)
            and not isinstance(given.get(a), Turned)
            and not _is_zero(axis, a)
        )
    ]
    if other and _turned(given):
        raise Blocked(f"other numbers are put in its place by {describe(node)}")
    kept = {n: s for n, s in given.items() if isinstance(s, Turned)}
    return join(axis, node, kept)


def _is_zero(axis: Along, node: fx.Node) -> bool:
    state = axis.states.get(node)
    if isinstance(state, Same):
        return state.zero
    held = axis.net.program.constants.get(str(node.target))
    return isinstance(held, torch.Tensor) and not held.is_meta and not bool(held.any())


def pad(axis: Along, node: fx.Node, given: Given) -> State | None:
    """New positions of zeros beside the others."""
    if any(a not in (0, None) for a in node.args[2:] if isinstance(a, int | float)):
        raise Blocked(f"other numbers are put beside it by {describe(node)}")
    return each(axis, node, given)


def _gone(axis: Along, node: fx.Node, operand: fx.Node) -> set[int]:
    """The dimensions that a reduction takes away."""
    rank, dim = axis.rank(operand), named_arguments(node).get("dim")
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return set(range(rank))
    return {d % rank for d in (dim if isinstance(dim, list | tuple) else (dim,))}


def _remaining(axis: Along, node: fx.Node, state: Turned) -> Turned:
    made = axis.places(node)
    if len(made) != len(state.places):
        raise Blocked(f"no matrix passes {describe(node)}")
    places = dict(zip(made, state.places.values(), strict=True))
    return Turned(places, state.slots, state.needs, state.pending)


def reduce(axis: Along, node: fx.Node, given: Given) -> State | None:
    """A sum or mean: over units, of squares or of the values; or over something else."""
    operand, state = next(iter(given.items()))
    if isinstance(state, Same):
        return _same(node, given) if axis.places(node) else None
    places = state.dims if isinstance(state, Squared) else frozenset(state.places)
    gone = _gone(axis, node, operand) & places
    if not gone:
        if isinstance(state, Squared):
            raise Blocked(f"squares of its units are used one by one: {describe(node)}")
        slots = _spent(axis, node, [(operand, state)])
        return replace(_remaining(axis, node, state), slots=slots)
    _statistic(axis, node, operand, state)
    return None


def _statistic(axis: Along, node: fx.Node, operand: fx.Node, state: State) -> None:
    """A number for all units: of squares for orthogonal M, of values where M keeps ones."""
    if isinstance(state, Turned):
        if state.pending or node in axis.still:
            raise Blocked(f"no matrix passes {describe(node)}")
        _spent(axis, node, [(operand, state)])
        axis.found.needs.update(_ONES)
    axis.found.needs.update(_ORTHOGONAL)


def variance(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Variance over units, for M that keeps ones."""
    operand, state = next(iter(given.items()))
    if not isinstance(state, Turned) or not _gone(axis, node, operand) & set(state.places):
        raise Blocked(f"no matrix passes {describe(node)}")
    _statistic(axis, node, operand, state)
    return None


def length(axis: Along, node: fx.Node, given: Given) -> State | None:
    """The Euclidean length over units."""
    order = node.args[1] if len(node.args) > 1 else 2
    operand, state = next(iter(given.items()))
    turned = isinstance(state, Turned) and not state.pending and node not in axis.still
    if order != 2 or not turned or not _gone(axis, node, operand) & set(state.places):  # type: ignore[union-attr]
        raise Blocked(f"no matrix passes {describe(node)}")
    _spent(axis, node, [(operand, state)])  # type: ignore[list-item]
    axis.found.needs.update(_ORTHOGONAL)
    return None


def contract(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Sums of products; see `graphs.rules.labels`."""
    labels = known_of(node.target).labels
    found = labels(node, axis.rank) if labels else None
    if found is None:
        raise Blocked(f"no matrix passes {describe(node)}")
    met: dict[str, list[tuple[fx.Node, int, tuple[int, ...]]]] = {}
    for factor, letters in found.factors:
        state = given.get(factor)
        if isinstance(state, Turned):
            for place, sides in state.places.items():
                met.setdefault(letters[place], []).append((factor, place, sides))
        elif state is not None:
            raise Blocked(f"equal numbers are multiplied with it by {describe(node)}")
    out: Places = {}
    folds: dict[fx.Node, tuple[Pending, int]] = {}
    makers: frozenset[Any] = frozenset()
    for letter, here in met.items():
        waiting = [(n, given[n].pending) for n, _, _ in here if given[n].pending]  # type: ignore[union-attr]
        if letter in found.result:
            if len(here) > 1:
                raise Blocked(f"its units are multiplied one by one by {describe(node)}")
            ((factor, _, sides),) = here
            if waiting:
                axis.settled(node, given[factor])  # type: ignore[arg-type]
            out[found.result.index(letter)] = sides
            kind = dict(found.factors)[factor]
            dims = axis.dims(factor)
            axis.mixed.update(
                name
                for dim, other in zip(dims, kind, strict=False)
                if other not in found.result and other != letter
                for name in atoms(dim)
            ) if factor not in axis.still else None
            if factor in axis.still and len(node.users) == 1:
                makers = given[factor].slots  # type: ignore[union-attr]
            continue
        if len(here) != 2:
            raise Blocked(f"its units are told apart by {describe(node)}")
        (first, at, left), (second, other, right) = here
        axis.relate(node, left, right, opposite=True)
        for one, partner, place in ((first, second, other), (second, first, at)):
            pending = given[one].pending  # type: ignore[union-attr]
            if pending is None:
                continue
            if partner not in axis.still:
                raise Blocked(
                    f"{pending.scale} differs from unit to unit, and what it scales at "
                    f"{pending.place} is read by {describe(node)} and not by weights alone"
                )
            folds[partner] = pending, place
    bias = parameter_of(found.addend[0]) if found.addend else None
    named = bias[0] if bias and not bias[1] else None
    for factor, _ in found.factors:
        state = given.get(factor)
        if isinstance(state, Turned) and state.slots:
            scaled = folds.get(factor)
            if scaled is None:
                axis.spend(state, node)
            else:
                axis.spend(state, node, *scaled, named)
    needs: frozenset[str] = frozenset()
    if found.addend is not None and out:
        needs = _added(axis, node, given, found.addend, out, makers)
        added = given.get(found.addend[0])
        if makers and isinstance(added, Turned):
            makers |= added.slots
    if len(out) > 1:
        raise Blocked(f"it meets itself at {describe(node)}")
    return Turned(out, needs=needs, makers=makers) if out else None


def _added(
    axis: Along,
    node: fx.Node,
    given: Given,
    addend: tuple[fx.Node, str],
    out: Places,
    makers: frozenset[Any],
) -> frozenset[str]:
    """What an addend asks of M: nothing where it runs along the axis and turns as well."""
    state = given.get(addend[0])
    if isinstance(state, Same):
        return frozenset() if state.zero else _ONES
    if state is None:
        return _ONES
    assert isinstance(state, Turned)
    shift = axis.rank(node) - axis.rank(addend[0])
    ((place, sides),) = out.items()
    given_sides = state.places.get(place - shift)
    if given_sides is None:
        given_sides = next(iter(state.places.values()))
    axis.relate(node, sides, given_sides)
    if state.slots:
        axis.spend(state, node)
    return frozenset()


def attention(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Queries and keys turn against each other, values pass."""
    query, key, value = node.args[:3]
    if set(given) - {query, key, value}:
        raise Blocked(f"no matrix passes {describe(node)}")
    last = {}
    for operand, state in given.items():
        if not isinstance(state, Turned) or set(state.places) != {axis.rank(operand) - 1}:
            raise Blocked(f"attention weighs its units one by one: {describe(node)}")
        state = axis.settled(node, state)
        _spent(axis, node, [(operand, state)])
        last[operand] = state.places[axis.rank(operand) - 1]
    if (query in last) is not (key in last):
        raise Blocked(f"no matrix passes {describe(node)}")
    if query in last:
        axis.relate(node, last[query], last[key], opposite=True)
    return Turned({axis.rank(node) - 1: last[value]}) if value in last else None


def norm(axis: Along, node: fx.Node, given: Given) -> State | None:
    """A norm over the trailing dimensions, with its scale and shift."""
    named = named_arguments(node)
    x = node.args[0]
    state = given.get(x)
    rank = axis.rank(x)
    over = range(rank - len(named["normalized_shape"]), rank)
    if not isinstance(state, Turned) or not set(state.places) <= set(over) or node in axis.still:
        raise Blocked(f"its units are normed apart from each other by {describe(node)}")
    state = axis.settled(node, state)
    _spent(axis, node, [(x, state)])
    layer = "layer_norm" in str(node.target)
    axis.found.needs.update(_ONES if layer else _ORTHOGONAL)
    scale, shift = named.get("weight"), named.get("bias")
    result = Turned(dict(state.places))
    if isinstance(scale, fx.Node):
        result = _scaled(axis, node, (x, state), scale)
        result = replace(result, makers=frozenset())
    if not isinstance(shift, fx.Node):
        return result
    if result.pending is not None:
        found = parameter_of(shift)
        if found is None or found[1]:
            raise Blocked(f"the shift of {describe(node)} is no parameter alone")
        axis.found.scales.add(found[0])
        return replace(result, pending=replace(result.pending, shift=found[0]))
    other = given.get(shift)
    if not isinstance(other, Turned):
        raise Blocked(f"no matrix passes {describe(node)}")
    for sides, more in zip(state.places.values(), other.places.values(), strict=True):
        axis.relate(node, sides, more)
    axis.spend(other, node)
    return result


def batch_norm(axis: Along, node: fx.Node, given: Given) -> State | None:
    """In evaluation mode a scale and a shift of every channel."""
    x, weight, bias, mean, variance = node.args[:5]
    state = given.get(x)
    names = [n.target if isinstance(n, fx.Node) else None for n in (weight, bias, mean, variance)]
    plain = all(n is None or str(n) in axis.net.tensors for n in names)
    channels = isinstance(state, Turned) and set(state.places) == {1}
    if not channels or not plain or mean is None or node in axis.still:
        raise Blocked(f"no matrix passes {describe(node)}")
    assert isinstance(state, Turned)
    state = axis.settled(node, state) if state.pending else state
    scale, shift, average, spread = (None if n is None else str(n) for n in names)
    epsilon = float(node.args[7])
    axis.found.scales.update(n for n in (scale, spread) if n)
    sides = state.places[1]
    for operand in (bias, mean):
        other = given.get(operand) if isinstance(operand, fx.Node) else None
        if isinstance(other, Turned):
            axis.relate(node, sides, other.places[0])
            axis.spend(other, node)
    factors = [axis.value(n) for n in (scale, spread) if n]
    result = Turned({1: sides}, makers=_kept(node, state))
    if all(v is not None and uniform(v) for v in factors):
        return result
    pending = Pending(scale, 0.0, shift, describe(node), average, spread, epsilon)
    return axis.settled(node, replace(result, pending=pending, makers=_kept_at(node, state, x)))


def _kept_at(node: fx.Node, state: Turned, operand: Any) -> frozenset[Any]:
    return state.makers if len(operand.users) == 1 else frozenset()


def made(axis: Along, node: fx.Node, given: Given) -> State | None:
    """Equal numbers."""
    return Same(known_of(node.target).zero == "zero") if axis.places(node) else None


HANDLERS: dict[str, Handler] = {
    "each": each,
    "sum": add,
    "product": multiply,
    "quotient": divide,
    "square": square,
    "join": join,
    "choice": choose,
    "pad": pad,
    "reduce": reduce,
    "variance": variance,
    "length": length,
    "contract": contract,
    "attention": attention,
    "norm": norm,
    "batch norm": batch_norm,
    "made": made,
}
