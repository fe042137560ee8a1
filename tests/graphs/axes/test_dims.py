"""Dimension algebra: normal forms, positions and unification agree with brute force."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.axes.dims import (
    Atom,
    Axis,
    Fixed,
    Sum,
    concat,
    kept_positions,
    product,
    size,
    unit_index,
)
from graphs.axes.unify import Unifier

AXES = {name: Axis(name, n) for name, n in {"a": 2, "b": 3, "c": 4}.items()}


@st.composite
def dims(draw, names=("a", "b", "c"), depth=2):
    """Expressions in which an axis occurs at most once in every product."""
    kind = draw(st.sampled_from(["atom", "fixed", "sum", "prod"] if depth else ["atom", "fixed"]))
    if kind == "fixed" or not names:
        return Fixed(draw(st.integers(1, 3)))
    if kind == "atom":
        return Atom(draw(st.sampled_from(names)))
    if kind == "sum":
        return concat([draw(dims(names, depth - 1)) for _ in range(draw(st.integers(1, 3)))])
    cut = draw(st.integers(0, len(names)))
    return product([draw(dims(names[:cut], depth - 1)), draw(dims(names[cut:], depth - 1))])


@given(dims(), st.data())
@settings(max_examples=150, deadline=None)
def test_kept_positions_are_those_whose_units_are_kept(dim, data):
    kept = {
        name: torch.tensor(sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1))))
        for name, n in {"a": 2, "c": 4}.items()
    }
    alive = torch.ones(size(dim, AXES), dtype=torch.bool)
    for name, units in kept.items():
        index = unit_index(dim, name, AXES)
        alive &= (index < 0) | torch.isin(index, units)
    found = kept_positions(dim, kept, AXES)
    found = torch.arange(len(alive)) if found is None else found
    assert torch.equal(found, alive.nonzero().flatten())


@given(st.integers(1, 11))
def test_split_parts_cover_the_dimension(position):
    solver = Unifier()
    whole = solver.fresh(12)
    left, right = solver.split(whole, position)
    assert solver.size(left) == position
    assert solver.resolve(whole) == solver.resolve(concat((left, right)))


def test_grouped_heads_refine_the_query_dimension():
    solver = Unifier()
    query, key = solver.fresh(24), solver.fresh(8)
    heads, feature = solver.reshape((query,), (6, 4), "view")
    kv, feature_k = solver.reshape((key,), (2, 4), "view")
    solver.unify(feature, feature_k)
    group = solver.fresh(3)
    solver.unify(heads, product((kv, group)))
    assert solver.resolve(query) == product((kv, group, solver.resolve(feature)))
    assert solver.resolve(key) == product((kv, solver.resolve(feature)))


def test_concatenation_splits_what_it_meets():
    solver = Unifier()
    a, b, c = solver.fresh(3), solver.fresh(4), solver.fresh(7)
    solver.unify(concat((a, b)), c)
    assert solver.resolve(c) == Sum((a, b))


def test_what_does_not_divide_is_frozen_with_the_reason():
    solver = Unifier()
    flat = product((solver.fresh(6), solver.fresh(5)))
    (out,) = solver.reshape((flat,), (30,), "whole")
    assert out == flat
    uneven = concat((solver.fresh(3), solver.fresh(4)))
    cut = solver.reshape((uneven, Fixed(2)), (7, 1, 2), "unused")
    assert cut == (uneven, Fixed(1), Fixed(2))
    cut = solver.reshape((uneven, Fixed(2)), (2, 7), "a view does not divide")
    assert all(isinstance(d, Fixed) for d in cut)
    assert set(solver.frozen.values()) == {"a view does not divide"}
    solver.unify(solver.fresh(4), Fixed(4, "positions of a sequence"))
    assert "positions of a sequence" in solver.frozen.values()


def test_frozen_axes_stay_frozen_when_refined():
    solver = Unifier()
    a = solver.fresh(6)
    solver.freeze(a, "output of the model")
    left, right = solver.split(a, 2)
    assert {solver.frozen[left.axis], solver.frozen[right.axis]} == {"output of the model"}
