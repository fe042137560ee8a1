"""Refit in order: every layer of the small network answers for the layers before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from graphs.dims import kept_positions
from pruners.solvers.matrix import as_matrix, from_matrix
from pruners.statistics.calls import Call, LinearCalls
from pruners.statistics.running import forward, undisturbed
from pruners.structured.compensation import _consuming_side
from pruners.structured.refit import UNSEEN, Refit, intercept_of, merge
from pruners.structured.regression import DAMPING, Regression, fit

if TYPE_CHECKING:
    from graphs import Network

PASSES = 16
"""Runs of both networks over the batches, at most; layers in between are refitted together."""


def refit_in_order(
    net: Network,
    model: nn.Module,
    small: Network,
    pruned: nn.Module,
    kept: Mapping[str, torch.Tensor],
    batches: Sequence[Any],
    *,
    passes: int = PASSES,
    damping: float = DAMPING,
) -> Refit:
    r"""Weights with which a pruned network reproduces the dense one, layer by layer.

        min over W', b of Σ ‖y − W' x' − b‖²

    where y is the output of the dense layer in the dense network and x' the input of the layer in
    the pruned network, whose earlier layers have been refitted already, so that their errors do not
    add up (He et al. 2017, "Channel Pruning", eq. 5; Li et al. 2025, "GPTAQ"). All linear maps and
    convolutions behind the first cut are refitted, those that lose no inputs too.

    Args:
        net, model: the dense network and its module; left as they were.
        small: the network after `remove` (and `drop`).
        pruned: its module; left as it was.
        kept: axis name → kept unit indices.
        batches: example inputs (a tuple of arguments, a mapping of keywords, or one tensor).
        passes: layers are refitted in so many groups, in the order in which they run; the layers of
            a group see the inputs from before any of it was refitted.
        damping: see `regression.fit`.

    Returns:
        Values of the small network's shapes, for `small.replace`.

    Raises:
        ValueError: no batches.
    """
    if not batches:
        raise ValueError("a refit needs at least one calibration batch (got none)")
    result = Refit()
    own = dict(pruned.named_parameters()) | dict(pruned.named_buffers())
    theirs = dict(model.named_parameters())
    sides = {
        name: side
        for name, tensor in small.tensors.items()
        if tensor.role == "weight"
        and (side := _consuming_side(tensor)) is not None
        and name in theirs
    }
    with undisturbed(model), undisturbed(pruned), torch.no_grad(), _restored(own):
        order = _called(pruned, {id(own[name]): name for name in sides}, batches[0])
        result.not_refitted.update({name: UNSEEN for name in sides if name not in order})
        step = max(1, ceil(len(order) / passes))
        for start in range(0, len(order), step):
            names = order[start : start + step]
            rows = {
                name: kept_positions(net.tensors[name].dims[1 - sides[name]], kept, net.axes)
                for name in names
            }
            sums = _watch(model, pruned, theirs, own, rows, batches)
            for name in names:
                if name in sums:
                    _solve(small, own, name, sides[name], sums[name].double(), damping, result)
                else:
                    result.not_refitted[name] = "the dense network calls it otherwise"
    return result


def _solve(
    small: Network,
    own: Mapping[str, torch.Tensor],
    name: str,
    side: int,
    sums: Regression,
    damping: float,
    result: Refit,
) -> None:
    """Refit one weight in place, and write it down if that changed anything."""
    weight = own[name]
    groups = len(sums.x_mean)
    matrix = as_matrix(weight.detach(), 1 - side).to(sums.xx).unflatten(0, (groups, -1))
    into = intercept_of(small, name, small.tensors[name])
    if into is None:
        sums = sums.about_zero()
    found = fit(sums, matrix, damping)
    if found.gain == 0.0 and into is None:
        return
    left = sums.yy - (sums.xy * matrix.mT).sum() * 2 + (matrix * (matrix @ sums.xx)).sum()
    energy = max(sums.yy, torch.finfo(torch.float64).tiny)
    before = max(0.0, left.item())
    result.errors[name] = (before / energy, max(0.0, before - found.gain) / energy)
    values = {name: from_matrix(found.weight.flatten(0, 1), weight.shape, 1 - side)}
    if into is not None:
        shift = found.intercept.flatten()
        # Targets hold the dense bias already; a norm subtracts its mean, and the dense one is due.
        old = small.tensors[into].value.to(shift)
        values[into] = old - shift if small.tensors[into].role == "running_mean" else shift
    for key, value in values.items():
        own[key].copy_(value)
        result.values[key] = own[key].detach().clone()
    if found.damping > damping:
        result.damped[name] = found.damping


def _called(model: nn.Module, names: Mapping[int, str], batch: Any) -> list[str]:
    """Weights in the order in which a model first calls them."""
    seen: dict[str, None] = {}

    def watch(call: Call) -> None:
        if (name := names.get(id(call.weight))) is not None:
            seen.setdefault(name)

    with LinearCalls(watch):
        forward(model, batch)
    return list(seen)


def _watch(
    model: nn.Module,
    pruned: nn.Module,
    theirs: Mapping[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    rows: Mapping[str, torch.Tensor | None],
    batches: Sequence[Any],
) -> dict[str, Regression]:
    """Inputs in the pruned network against outputs in the dense one, call by call."""
    dense_names = {id(theirs[name]): name for name in rows}
    small_names = {id(own[name]): name for name in rows}
    found: dict[str, Regression] = {}
    odd: set[str] = set()
    for batch in batches:
        outputs: dict[str, list[torch.Tensor]] = {}

        def target(call: Call, output: torch.Tensor, seen: dict = outputs) -> None:
            if (name := dense_names.get(id(call.weight))) is not None:
                index = rows[name]
                if index is not None:
                    output = output.index_select(call.channel_dim, index.to(output.device))
                seen.setdefault(name, []).append(output)

        def source(call: Call, output: torch.Tensor, seen: dict = outputs) -> None:
            name = small_names.get(id(call.weight))
            if name is None:
                return
            waiting = seen.get(name)
            if not waiting or waiting[0].shape != output.shape:
                odd.add(name)
            else:
                merge(found, name, Regression.of_call(call, waiting.pop(0)))

        with LinearCalls(after=target):
            forward(model, batch)
        with LinearCalls(after=source):
            forward(pruned, batch)
        odd.update(name for name, waiting in outputs.items() if waiting)
    return {name: sums for name, sums in found.items() if name not in odd}


@contextmanager
def _restored(tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """On leaving, these tensors hold what they held."""
    before = {name: value.detach().clone() for name, value in tensors.items()}
    try:
        yield
    finally:
        for name, value in before.items():
            tensors[name].copy_(value)
