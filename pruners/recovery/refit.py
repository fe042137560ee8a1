"""Exact refit: the weights that read what stays make up for what went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from graphs.axes.dims import kept_positions
from graphs.calls.running import run, undisturbed
from graphs.tools.words import counted
from pruners.norms import norm_means
from pruners.recovery.compensation import bias_of
from pruners.recovery.regression import DAMPING, Fit, Regression, fit
from pruners.solvers.matrix import as_matrix, from_matrix, matrix_shape, rows_of
from pruners.statistics.calls import Call, LinearCalls

if TYPE_CHECKING:
    from graphs import Network, Tensor

UNSEEN = "its inputs were not measured"


@dataclass(frozen=True)
class Refit:
    """New weights and what they are worth.

    Args:
        values: tensor name → new value, for `net.replace`: weights, and the biases or running means
            that take their intercepts.
        not_refitted: name of a weight that reads a cut axis → reason.
        errors: weight name → share of the outputs' energy about their mean that is lost with its
            old kept entries and their best intercept, and with the new ones.
        damped: weight name → damping, where more was needed than asked.
    """

    values: dict[str, torch.Tensor] = field(default_factory=dict)
    not_refitted: dict[str, str] = field(default_factory=dict)
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    damped: dict[str, float] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """One sentence for a person."""
        done = f"{counted(len(self.errors), 'consumer')} of removed units refitted"
        if self.errors:
            pairs = torch.tensor(list(self.errors.values()), dtype=torch.float64)
            before, after = pairs.mean(0).tolist()
            done += f" (mean output error {before:.3g} → {after:.3g})"
        if not self.not_refitted:
            return f"{done}."
        reasons = [f"{count} {why}" for why, count in Counter(self.not_refitted.values()).items()]
        return f"{done}, {len(self.not_refitted)} not ({'; '.join(reasons)})."


def consumers(net: Network, kept: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Weights that read a cut axis → the dimension that does; −1 where none or several could.

    Args:
        net: the dense network.
        kept: axis name → kept unit indices.
    """
    cut = {axis for axis, index in kept.items() if index.numel() < net.axes[axis].size}
    found = {}
    for name, tensor in net.tensors.items():
        if tensor.role == "weight" and cut.intersection(tensor.axes_read):
            found[name] = -1 if tensor.input_dim is None else tensor.input_dim
    return found


def input_moments(
    net: Network, model: nn.Module, batches: Iterable[Any], weights: Iterable[str] | None = None
) -> dict[str, Regression]:
    """Means and covariances of the inputs of linear maps and convolutions, group by group.

    Args:
        net: the network of this model.
        model: the dense model; runs in evaluation mode and is left as it was.
        batches: example inputs (a tuple of arguments, a mapping of keywords, or one tensor).
        weights: names; None for all that read an axis that may be cut.

    Returns:
        Weight name → sums over the columns of `pruners.solvers.as_matrix`, float32 or wider.

    Raises:
        ValueError: no batches.
    """
    if weights is None:
        free = {a: torch.empty(0, dtype=torch.int64) for a, x in net.axes.items() if not x.frozen}
        weights = consumers(net, free)
    wanted = set(weights)
    names = {id(value): name for name, value in model.named_parameters() if name in wanted}
    found: dict[str, Regression] = {}

    def watch(call: Call) -> None:
        if (name := names.get(id(call.weight))) is not None:
            merge(found, name, Regression.of_call(call))

    seen = 0
    with undisturbed(model), torch.no_grad(), LinearCalls(watch):
        for seen, batch in enumerate(batches, start=1):  # noqa: B007
            run(model, batch)
    if seen == 0:
        raise ValueError("a refit needs at least one calibration batch (got none)")
    return found


def merge(into: dict[str, Regression], name: str, sums: Regression) -> None:
    """Add samples of one weight."""
    if name in into:
        into[name].merge_(sums)
    else:
        into[name] = sums


def refit(
    net: Network,
    kept: Mapping[str, torch.Tensor],
    moments: Mapping[str, Regression],
    damping: float = DAMPING,
) -> Refit:
    r"""The kept entries of every consumer of a cut axis that reproduce its dense outputs best.

        min over W_k, b of Σ ‖W x − W_k x_k − b‖²,   hence   W_k = W_k⁰ + W_r H_rk H_kk⁻¹

    Kurtic et al. 2023 (ZipLM, eq. 5) and Li et al. 2025 (Týr-the-Pruner, §3.2) for any consumer:
    kernels through the covariance of the patches they see, groups one by one, concatenations and
    heads × features by the positions that stay. The intercept goes into the bias, or into the
    running mean of a batch norm behind; where there is neither, the fit is about zero.

    Args:
        net: the dense network.
        kept: axis name → kept unit indices.
        moments: what `input_moments` found on the dense model.
        damping: see `regression.fit`.

    Returns:
        Values of dense shape, for `net.replace` before `net.remove`; removed inputs get zeros.
    """
    result = Refit()
    for name, side in consumers(net, kept).items():
        tensor = net.tensors[name]
        if side < 0 or name not in moments:
            why = UNSEEN if side >= 0 else "it reads several dimensions of units"
            result.not_refitted[name] = why
            continue
        positions = kept_positions(tensor.dims[side], kept, net.axes)
        assert positions is not None
        out_dim = rows_of(net, name)
        sums = moments[name].double()
        groups, width = sums.x_mean.shape
        matrix = as_matrix(tensor.value.detach(), out_dim).to(sums.xx).unflatten(0, (groups, -1))
        into = intercept_of(net, name, tensor)
        sums = (sums.about_zero() if into is None else sums).given(matrix)
        inputs = tensor.value.shape[side]
        taps = torch.arange(width // inputs)[:, None] * inputs
        columns = (taps + positions).flatten().to(matrix.device)
        found = fit(sums.of_inputs(columns), matrix[:, :, columns], damping)
        _note(result, name, found, matrix, sums, columns, damping)
        new = torch.zeros_like(matrix)
        new[:, :, columns] = found.weight
        value = from_matrix(new.flatten(0, 1), tensor.value.shape, out_dim)
        result.values[name] = value.to(tensor.value)
        if into is not None:
            # An intercept is added to a bias; it is taken from the mean that a norm subtracts.
            sign = -1.0 if net.tensors[into].role == "running_mean" else 1.0
            old = result.values.get(into, net.tensors[into].value)
            shift = sign * found.intercept.flatten()
            result.values[into] = (old.to(shift) + shift).to(old.dtype)
    return result


def _note(
    result: Refit,
    name: str,
    found: Fit,
    matrix: torch.Tensor,
    sums: Regression,
    columns: torch.Tensor,
    damping: float,
) -> None:
    """Errors before and after, from the same sums."""
    gone = matrix.clone()
    gone[:, :, columns] = 0
    before = (gone * (gone @ sums.xx)).sum().item()
    scale = max(sums.yy, torch.finfo(torch.float64).tiny)
    result.errors[name] = (before / scale, max(0.0, before - found.gain) / scale)
    if found.damping > damping:
        result.damped[name] = found.damping


def intercept_of(net: Network, name: str, tensor: Tensor) -> str | None:
    """What takes the intercept of a weight: its bias, or the running mean of a norm behind it."""
    bias = bias_of(net, name, tensor)
    if bias is not None:
        return bias
    mean = norm_means(net).get(name)
    if mean is not None and net.tensors[mean].value.numel() != matrix_shape(net, name)[0]:
        return None  # groups of a transposed convolution share their rows, but no intercept
    return mean
