"""Bias compensation: what removed units contributed on average stays, in the consumers' biases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from graphs.axes.dims import atoms, kept_positions
from graphs.calls.running import run, undisturbed
from graphs.tools.words import counted
from pruners.statistics.calls import Call, LinearCalls

if TYPE_CHECKING:
    from graphs import Network, Tensor


@dataclass(frozen=True)
class Compensation:
    """New biases, and what could not be compensated.

    Args:
        values: bias name → new value, dense shape, for `net.replace` before `net.remove`.
        uncompensated: consumer weight name → reason.
    """

    values: dict[str, torch.Tensor]
    uncompensated: dict[str, str]

    @property
    def status(self) -> str:
        """One sentence for a person."""
        done = counted(len(self.values), "bias", "biases")
        without = [
            f"; {counted(count, 'weight')} went without: {why}"
            for why, count in Counter(self.uncompensated.values()).items()
        ]
        return f"What removed units added on average went into {done}{''.join(without)}."


def input_means(net: Network, model: nn.Module, batches: Iterable[Any]) -> dict[str, torch.Tensor]:
    """Mean input of every consumer weight, position by position along its input channels.

    Args:
        net: the network of this model.
        model: the dense model; runs in evaluation mode and is left as it was.
        batches: example inputs (a tuple of arguments, a mapping of keywords, or one tensor).

    Returns:
        Weight name → mean over batch, space and time, float32 or wider, shape (input channels,) of
        the call, for the linear maps and convolutions whose input units may be pruned.

    Raises:
        ValueError: no batches.
    """
    wanted = {
        name
        for name, tensor in net.tensors.items()
        if tensor.role == "weight"
        and (side := tensor.input_dim) is not None
        and any(net.axes[axis].frozen is None for axis in atoms(tensor.dims[side]))
    }
    names = {id(value): name for name, value in model.named_parameters() if name in wanted}
    sums: dict[str, torch.Tensor] = {}
    rows: dict[str, int] = {}

    def watch(call: Call) -> None:
        name = names.get(id(call.weight))
        # Every output of a transposed convolution sees a part of its taps only.
        if name is None or call.transposed or call.input_dim != net.tensors[name].input_dim:
            return
        value = call.input.detach().movedim(call.channel_dim, -1).flatten(0, -2)  # (rows, channels)
        total = value.sum(0, dtype=torch.promote_types(value.dtype, torch.float32))
        sums[name] = sums[name] + total if name in sums else total
        rows[name] = rows.get(name, 0) + value.shape[0]

    seen = 0
    with undisturbed(model), torch.no_grad(), LinearCalls(watch):
        for seen, batch in enumerate(batches, start=1):  # noqa: B007
            run(model, batch)
    if seen == 0:
        raise ValueError("bias compensation needs at least one calibration batch (got none)")
    return {name: total / rows[name] for name, total in sums.items()}


def compensate_bias(
    net: Network, kept: Mapping[str, torch.Tensor], means: Mapping[str, torch.Tensor]
) -> Compensation:
    r"""Fold the mean contribution of removed units into the biases of their consumers.

        b ← b + Σ_{j removed} W[:, j] · E[x_j]     (a kernel is summed over its taps)

    the shift that keeps the consumer's mean output (FLAP, An et al. 2023, eq. 5). Exact where the
    removed units are constant; next to the border of a zero-padded convolution it is an average.

    Args:
        net: the dense network.
        kept: axis name → kept unit indices.
        means: what `input_means` found on the dense model.

    Returns:
        The new biases in their own dtypes, and the consumers that have none (a batch norm behind
        them absorbs the shift when it is recalibrated).
    """
    values: dict[str, torch.Tensor] = {}
    uncompensated: dict[str, str] = {}
    for name, tensor in net.tensors.items():
        if tensor.role != "weight":
            continue
        side = tensor.input_dim
        if side is None:
            if any(a in kept and kept[a].numel() < net.axes[a].size for a in tensor.axes_read):
                uncompensated[name] = "not a linear map or a convolution"
            continue
        positions = kept_positions(tensor.dims[side], kept, net.axes)
        width = tensor.value.shape[side]
        if positions is None or positions.numel() == width:
            continue
        bias = bias_of(net, name, tensor)
        if name not in means:
            uncompensated[name] = "its inputs were not measured"
        elif bias is None:
            uncompensated[name] = "no bias"
        else:
            removed = torch.ones(width, dtype=torch.bool, device=tensor.value.device)
            removed[positions.to(removed.device)] = False
            shift = mean_shift(tensor.value, removed, means[name], side)
            old = values.get(bias, net.tensors[bias].value)
            values[bias] = (old.to(shift.dtype) + shift).to(old.dtype)
    return Compensation(values, uncompensated)


def mean_shift(
    weight: torch.Tensor, removed: torch.Tensor, mean: torch.Tensor, side: int
) -> torch.Tensor:
    """Mean output of the removed inputs of a linear map or a (grouped) convolution.

    Args:
        weight: (out, in, taps...) with `side` 1, or (in, out) with `side` 0.
        removed: bool, (in,): input positions of the weight that go.
        mean: mean inputs, (groups·in,), groups that share the weight's input dimension in order.
        side: dimension of the weight that consumes.

    Returns:
        Shape (out,), float32 or wider.
    """
    wide = weight.detach().to(torch.promote_types(mean.dtype, torch.float32))
    matrix = wide.movedim(side, 1).flatten(2).sum(2) if wide.ndim > 2 else wide.movedim(side, 1)
    rows, width = matrix.shape
    groups = mean.numel() // width
    contribution = torch.where(removed, mean.to(matrix).reshape(groups, 1, width), 0.0)
    # (groups, rows / groups, width) · (groups, 1, width) → (rows,)
    return (matrix.reshape(groups, rows // groups, width) * contribution).sum(-1).reshape(rows)


def bias_of(net: Network, weight_name: str, weight: Tensor) -> str | None:
    """Name of the bias that is added to what a weight makes, or None."""
    prefix, dot, leaf = weight_name.rpartition(".")
    name = f"{prefix}{dot}{leaf.replace('weight', 'bias') if 'weight' in leaf else 'bias'}"
    found = net.tensors.get(name)
    # Kernel taps are no outputs.
    made = tuple(weight.dims[i] for i in weight.making if atoms(weight.dims[i]))
    return name if found is not None and found.dims == made else None
