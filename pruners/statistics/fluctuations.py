"""How much a unit's contribution to its readers fluctuates over calibration data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from graphs.axes.dims import atoms
from graphs.calls.running import run, undisturbed
from pruners.positions import sum_over_others, to_units
from pruners.statistics.calls import Call, LinearCalls

if TYPE_CHECKING:
    from graphs import Network


def unit_fluctuations(
    net: Network, model: nn.Module, batches: Iterable[Any]
) -> dict[str, torch.Tensor]:
    """Variance of a unit's values times the squared weights that read them.

    It is s(u) of An et al. 2024, "Fluctuation-based Adaptive Structured Pruning" (FLAP), §4, which
    `pruners.budgets.rules.flap` ranks.

    Variances are accumulated by Chan's pairwise update, so neither many batches nor large means
    cost precision.

    Args:
        net: the network of this model.
        model: runs in evaluation mode and is left as it was.
        batches: example inputs (a tuple of arguments, a mapping of keywords, or one tensor).

    Returns:
        Axis name → float32 or wider, shape (size,); axes that no weight consumes are missing.

    Raises:
        ValueError: no batches.
    """
    sides = {
        name: side
        for name, tensor in net.tensors.items()
        if tensor.role == "weight" and (side := tensor.input_dim) is not None
    }
    names = {id(value): name for name, value in model.named_parameters() if name in sides}
    moments: dict[str, tuple[int, torch.Tensor, torch.Tensor]] = {}

    def watch(call: Call) -> None:
        name = names.get(id(call.weight))
        if name is None or call.input_dim != sides[name]:
            return
        x = call.input.detach().movedim(call.channel_dim, -1).flatten(0, -2)  # (rows, channels)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = x.mean(0)
        moments[name] = merged(moments.get(name), (x.shape[0], mean, (x - mean).square().sum(0)))

    seen = 0
    with undisturbed(model), torch.no_grad(), LinearCalls(watch):
        for seen, batch in enumerate(batches, start=1):  # noqa: B007
            run(model, batch)
    if seen == 0:
        raise ValueError("fluctuations need at least one calibration batch (got none)")
    found: dict[str, torch.Tensor] = {}
    for name, (rows, _, squares) in moments.items():
        tensor, side = net.tensors[name], sides[name]
        weight = sum_over_others(tensor.value.detach().to(squares).square(), side)
        groups = squares.numel() // weight.numel()  # groups of a convolution share the dimension
        each = (squares / rows).reshape(groups, -1).mean(0) * weight
        for axis in atoms(tensor.dims[side]):
            units = to_units(each, tensor.dims[side], axis, net.axes)
            found[axis] = found[axis] + units if axis in found else units
    return found


Moments = tuple[int, torch.Tensor, torch.Tensor]


def merged(one: Moments | None, other: Moments) -> Moments:
    """Count, mean and summed squared deviation of two samples together (Chan et al. 1979)."""
    if one is None:
        return other
    (n, mean, squares), (m, mean_other, squares_other) = one, other
    gap = mean_other - mean
    total = n + m
    return (
        total,
        mean + gap * (m / total),
        squares + squares_other + gap.square() * (n * m / total),
    )
