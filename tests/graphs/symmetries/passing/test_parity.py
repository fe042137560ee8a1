"""Sides of values: consistent ones are told apart, a contradiction is noticed."""

from __future__ import annotations

from itertools import pairwise

from graphs.symmetries.passing.parity import Parity


def test_sides_follow_through_a_chain():
    parity = Parity()
    values = [parity.fresh() for _ in range(6)]
    for i, (a, b) in enumerate(pairwise(values)):
        parity.relate(a, b, opposite=i % 2 == 0)
    roots, sides = zip(*map(parity.find, values), strict=True)
    assert len(set(roots)) == 1
    assert [side ^ sides[0] for side in sides] == [False, True, True, False, False, True]
    parity.relate(values[1], values[2])
    parity.relate(values[0], values[5], opposite=True)
    assert not parity.contradicted


def test_one_value_on_both_sides_is_a_contradiction():
    parity = Parity()
    a, b, c = (parity.fresh() for _ in range(3))
    parity.relate(a, b, opposite=True)
    parity.relate(b, c, opposite=True)
    parity.relate(a, c, opposite=True)
    assert parity.contradicted
