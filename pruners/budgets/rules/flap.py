"""FLAP budget: units whose fluctuation the next layer would miss, standardised over each axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from graphs.axes.dims import atoms
from graphs.calls.running import run, undisturbed
from pruners.budgets.channels import Kept, Request, channel_allocator
from pruners.positions import sum_over_others, to_units
from pruners.statistics.calls import Call, LinearCalls

if TYPE_CHECKING:
    from graphs import Network


@channel_allocator("flap")
def flap(request: Request, *, fluctuations: Mapping[str, torch.Tensor]) -> Kept:
    r"""One threshold over z = (s − mean s) / std s of every axis, s(u) = Σ_j∈u Var(x_j)·‖W_:,j‖².

    An et al. 2024, "Fluctuation-based Adaptive Structured Pruning" (FLAP), §4: the metric WIFV with
    the adaptive standardised ranking of heads and channels. What a unit contributes on average is
    folded into the next bias, so what it is worth is how much that fluctuates. Axes that no linear
    map consumes are ranked by their scores, standardised alike.

    Args:
        request: what is asked.
        fluctuations: axis name → s, shape (size,); see `unit_fluctuations`.
    """
    found = {}
    for axis, score in request.scores.items():
        seen = fluctuations.get(axis)
        s = (score if seen is None else seen).detach().cpu().double()
        found[axis] = (s - s.mean()) / s.std(correction=0).clamp_min(1e-30)
    return request.select(found)


def unit_fluctuations(
    net: Network, model: nn.Module, batches: Iterable[Any]
) -> dict[str, torch.Tensor]:
    """s(u) of `flap`: variance of a unit's values times the squared weights that read them.

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
    sides = {}
    for name, tensor in net.tensors.items():
        consumed = [
            i
            for i, (dim, produced) in enumerate(zip(tensor.dims, tensor.produces, strict=True))
            if not produced and atoms(dim)
        ]
        if tensor.role == "weight" and len(consumed) == 1 and tensor.value.ndim > 1:
            sides[name] = consumed[0]
    names = {id(value): name for name, value in model.named_parameters() if name in sides}
    moments: dict[str, tuple[int, torch.Tensor, torch.Tensor]] = {}

    def watch(call: Call) -> None:
        name = names.get(id(call.weight))
        if name is None:
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
