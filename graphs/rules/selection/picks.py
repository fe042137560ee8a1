"""Operators that pick positions by number: one of them, each of them, or a table of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from graphs.axes.dims import Dim, Fixed, atoms
from graphs.rules.context import Context, Dims, Extent, Value
from graphs.rules.registry import known_of, rule
from graphs.rules.selection.routing import has_units, looked_up

# Unbinding more positions than this is a loop over time, not a handful of named parts.
MOST_PARTS = 64


@rule("unbind", zero="move", ends=True, picks="place", homogeneous=True, turns="each")
def unbind(ctx: Context, x: Value, dim: int = 0) -> Any:
    """One result for each position: the positions are told apart, none of them can go."""
    dim %= len(x.dims)
    rest: Dim = x.dims[dim]
    if has_units(ctx, rest) and x.shape[dim] <= MOST_PARTS:
        for _ in range(x.shape[dim]):
            parts = ctx.solver.split(rest, 1)
            if parts is None:
                break
            ctx.solver.fix(parts[0], "unbound")
            rest = parts[1]
    ctx.freeze(x.dims[dim], "positions are unbound")
    return tuple((*x.dims[:dim], *x.dims[dim + 1 :]) for _ in ctx.shapes)


@rule(
    "select",
    zero="move",
    ends=True,
    picks="place",
    entries="moved",
    numbers="kept",
    turns="each",
)
def select(ctx: Context, x: Value, dim: int, index: Any) -> Dims:
    """One position: it is told apart from the others, which stay free."""
    dim %= len(x.dims)
    rest = (*x.dims[:dim], *x.dims[dim + 1 :])
    if not has_units(ctx, x.dims[dim]):
        return rest
    place = int(index) % x.shape[dim] if isinstance(index, int) else None
    before = None if place is None else ctx.solver.split(x.dims[dim], place)
    chosen = before and ctx.solver.split(before[1], 1)
    if before is None or chosen is None:
        ctx.freeze(x.dims[dim], "a position is selected by number")
        return rest
    ctx.solver.fix(chosen[0], "a position is selected by number")
    ctx.extent(2, Extent(before[0]))
    return rest


@rule(
    "index",
    "_unsafe_index",
    zero="move",
    ends=True,
    picks="number",
    entries="moved",
    numbers="kept or read",
    turns="each",
)
def index(ctx: Context, x: Value, indices: Sequence[Value | None]) -> Dims:
    """Advanced indexing: the indexed dimensions give way to those of the (broadcast) tables.

    Units looked up by number are frozen, but for those that a router chooses among.
    """
    tables = [(i, table) for i, table in enumerate(indices) if table is not None]
    if any(table.node is not None and _is_mask(table) for _, table in tables):
        ctx.opaque([x], "indexed by a mask")
        return ctx.fixed(ctx.shape, "indexed by a mask")
    gone = [i for i, _ in tables]
    for i, table in tables:
        if table.numbers is not None:
            looked_up(ctx, x.dims[i], table, "looked up by number")
            continue
        _told_apart(ctx, x.dims[i], x.shape[i], _numbers(table))
    kept = [d for i, d in enumerate(x.dims) if i not in gone]
    rank = max(len(table.dims) for _, table in tables)
    neighbours = gone == list(range(gone[0], gone[0] + len(gone)))
    place = gone[0] if neighbours else 0
    found = [_looked_up(ctx, tables, rank, i, ctx.shape[place + i]) for i in range(rank)]
    return (*kept[:place], *found, *kept[place:])


def _told_apart(ctx: Context, dim: Dim, n: int, numbers: list[int] | None) -> None:
    """Freeze what a table of numbers tells apart.

    A number counts from the start, or, if it is negative, from the end: what lies on that side of
    the position must stay, so that it is still found under its number.
    """
    if numbers is None or not has_units(ctx, dim):
        ctx.freeze(dim, "looked up by number")
        return
    head = max((i + 1 for i in numbers if i >= 0), default=0)
    tail = n + min((i for i in numbers if i < 0), default=0)
    parts = ctx.solver.split(dim, head) if head <= tail else None
    rest = parts and ctx.solver.split(parts[1], tail - head)
    if parts is None or rest is None:
        ctx.freeze(dim, "looked up by number")
        return
    for part in (parts[0], rest[1]):
        ctx.freeze(part, "looked up by number")


def _numbers(table: Value) -> list[int] | None:
    """The entries of a table that the forward itself states."""
    node = table.node
    while node is not None and node.op == "call_function":
        if known_of(node.target).entries != "same":
            return None
        node = node.args[0] if isinstance(node.args[0], fx.Node) else None
    held = None if node is None else node.meta.get("constant")
    return (
        held.flatten().tolist() if isinstance(held, torch.Tensor) and held.numel() < 256 else None
    )


def _looked_up(ctx: Context, tables: Sequence[tuple[int, Value]], rank: int, i: int, n: int) -> Dim:
    """Dimension `i` of the broadcast tables."""
    dim: Dim = Fixed(n, "looked up by number")
    for _, table in tables:
        place = i - (rank - len(table.dims))
        if place >= 0 and table.shape[place] == n and atoms(ctx.solver.resolve(table.dims[place])):
            dim = table.dims[place]
    return dim


def _is_mask(table: Value) -> bool:
    assert table.node is not None
    held = table.node.meta.get("val")
    return isinstance(held, torch.Tensor) and held.dtype in (torch.bool, torch.uint8)
