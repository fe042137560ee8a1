"""Positions of units in concatenations of products, part by part."""

from __future__ import annotations

import torch

from graphs.axes.dims import Atom, Axis, Fixed, concat, product
from graphs.symmetries.positions import runs

AXES = {name: Axis(name, size) for name, size in {"head": 2, "f": 3, "g": 2}.items()}


def test_every_run_has_each_unit_once():
    dim = concat((product((Atom("head"), Atom("f"))), Fixed(4), product((Atom("f"), Fixed(2)))))
    assert runs(dim, "f", 0, AXES).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert runs(dim, "f", 1, AXES).tolist() == [[10, 12, 14], [11, 13, 15]]
    assert runs(dim, "head", 0, AXES).tolist() == [[0, 3], [1, 4], [2, 5]]


def test_one_axis_alone_is_one_run():
    assert torch.equal(runs(Atom("f"), "f", 0, AXES), torch.arange(3)[None])


def test_two_parts_inside_a_product_are_told_apart():
    dim = product((Atom("head"), concat((Atom("g"), Fixed(1), Atom("g")))))
    assert sorted(runs(dim, "g", 0, AXES).flatten().tolist()) == [0, 1, 5, 6]
    assert sorted(runs(dim, "g", 1, AXES).flatten().tolist()) == [3, 4, 8, 9]
