"""Transformation "permute": units in an order whose groups can spare as many as N:M takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from graphs.axes.dims import Atom
from graphs.tools.words import counted
from pruners.moves import Moves
from pruners.transformations.base import Found, transformation
from pruners.transformations.deal import dealt
from pruners.transformations.evidence import sides_of
from pruners.transformations.importance import Weight
from pruners.transformations.requests import MaskRequest, Request

if TYPE_CHECKING:
    from graphs import Network


@transformation("permute")
@dataclass(frozen=True)
class Permute:
    """Every free axis that N:M groups lie along is dealt into groups; other patterns need none.

    Args:
        data: whether calibration counts; without, or where there is none, weights alone do.
    """

    data: bool = True

    def find(self, request: Request) -> Found:
        """See `pruners.transformations.base.Transformation`."""
        if not isinstance(request, MaskRequest):
            return Found(notes=("Nothing was reordered: whole units go, wherever they stand.",))
        net, zeros = request.net, request.zeros
        if not zeros.m:
            return Found(notes=(f"Nothing was reordered: pattern {zeros} has no groups.",))
        names = request.weights(net)
        readers = _readers(net, names, zeros.m)
        measured = sides_of(net, request.batches if self.data else (), names)
        orders, before, after = {}, 0.0, 0.0
        for axis, weights in readers.items():
            worth = [Weight.of(measured[n], ()).importance({}) for n in weights if n in measured]
            if not worth:
                continue
            order = dealt(worth, zeros.n, zeros.m)
            given = torch.arange(len(order), device=order.device)
            was, now = (_lost(worth, o, zeros.n, zeros.m) for o in (given, order))
            if now < was:
                orders[axis] = order
                before, after = before + was, after + now
        if not orders:
            return Found(notes=(f"Nothing was reordered for {zeros}: no axis gains by it.",))
        said = (
            f"Reordered for {zeros}: {counted(len(orders), 'axis', 'axes')}; the weights that go "
            f"along them are worth {before:.3g} before and {after:.3g} after, each by itself."
        )
        return Found(Moves.of(orders=orders), (said,))


def _readers(net: Network, names: Sequence[str], m: int) -> dict[str, list[str]]:
    """Free axis → weights whose groups of M lie along it alone."""
    found: dict[str, list[str]] = {}
    for name in names:
        tensor = net.tensors[name]
        assert tensor.input_dim is not None
        dim = tensor.dims[tensor.input_dim]
        taps = tensor.value[0, 0].numel()
        if isinstance(dim, Atom) and taps == 1 and net.axes[dim.axis].frozen is None:
            found.setdefault(dim.axis, []).append(name)
    return {axis: weights for axis, weights in found.items() if net.axes[axis].size % m == 0}


def _lost(worth: Sequence[torch.Tensor], order: torch.Tensor, n: int, m: int) -> float:
    groups = torch.cat(list(worth))[:, order].unflatten(1, (-1, m))
    return float(groups.topk(m - n, largest=False)[0].sum())
