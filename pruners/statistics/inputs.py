"""Statistics of the inputs of weights: what solvers know about the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from graphs.calls.running import run, undisturbed
from pruners.solvers.matrix import as_matrix
from pruners.statistics.calls import Call, LinearCalls, input_rows
from pruners.statistics.collected import Statistics
from pruners.statistics.curvature import (
    Likelihood,
    NoCurvatureError,
    OutputGradients,
    add_gradients,
    settled,
)
from pruners.statistics.gradients import LossFunction, squared_gradients
from pruners.statistics.moments import Moments, of_rows, parts_of

DEFAULT = ("norms", "hessian")


def input_statistics(
    model: nn.Module,
    batches: Iterable[Any],
    weights: Iterable[str],
    needs: Iterable[str] = DEFAULT,
    loss_fn: LossFunction | None = None,
) -> dict[str, dict[str, torch.Tensor]]:
    """`collect`, as solvers read it: weight name → statistic → tensor, and `samples`."""
    return collect(model, batches, weights, needs, loss_fn).tensors()


def both_sides(
    model: nn.Module, batches: Iterable[Any], weights: Iterable[str]
) -> dict[str, dict[str, torch.Tensor]]:
    """`hessian` and `curvature` of weights; `hessian` alone where no gradient reaches outputs."""
    listed, names = list(batches), list(weights)
    try:
        return input_statistics(model, listed, names, ("hessian", "curvature"))
    except NoCurvatureError:
        return input_statistics(model, listed, names, ("hessian",))


def collect(
    model: nn.Module,
    batches: Iterable[Any],
    weights: Iterable[str],
    needs: Iterable[str] = DEFAULT,
    loss_fn: LossFunction | None = None,
    dtype: torch.dtype = torch.float32,
    likelihood: Likelihood | None = None,
) -> Statistics:
    r"""Moments of linear maps and convolutions, in one pass over the batches.

    | statistic | meaning | shape |
    |---|---|---|
    | hessian | Σ x xᵀ / samples | (columns, columns) |
    | norms | √ diag(hessian) | (columns,) |
    | means, variances | of the inputs | (columns,) |
    | output_means, output_variances | of the outputs | (out,) |
    | gradients | √ Σ_s g², g = ∂L_s/∂w of batch s | (out, columns) |
    | curvature | Σ g gᵀ / predictions (`pruners.statistics.curvature`) | (out, out), or (out,) |

    where x runs over tokens, or over the patches a convolution sees, in the order of the columns of
    `pruners.solvers.as_matrix`. Groups of a grouped convolution share one statistic, their average.
    Only what is asked for is computed; sums stay on the device of the layer.

    Args:
        model: runs in evaluation mode and is left as it was.
        batches: example inputs (a tuple of arguments, a mapping of keywords, or one tensor).
        weights: names of the weights to describe.
        needs: statistics, by name; without "hessian" there are no square matrices.
        loss_fn: (model, batch) → scalar loss, for "gradients"; every batch is one sample s. None
            for the sensitivity of the outputs, which needs no targets (`squared_gradients`).
        dtype: sums are at least this wide, whatever the model computes in.
        likelihood: for "curvature": of what gradients are taken.

    Returns:
        Statistics that merge with those of other batches, devices and processes. Weights that the
        forward does not use through linear maps and convolutions are missing.

    Raises:
        ValueError: no batches, an unknown statistic, a name that is not a parameter, or a loss that
            is no scalar with a gradient.
    """
    result = Statistics(frozenset(needs))
    wanted = parts_of(result.needs)
    backward = "gradients" in result.needs
    generator = torch.Generator().manual_seed(0)
    parameters = dict(model.named_parameters())
    names = {}
    for name in weights:
        if name not in parameters:
            raise ValueError(f'the model has no parameter "{name}" to collect statistics for')
        names[id(parameters[name])] = name

    def add(name: str, found: Moments) -> None:
        result.moments.setdefault(name, Moments()).merge_(found)

    def watch(call: Call, output: torch.Tensor) -> None:
        name = names.get(id(call.weight))
        if name is None:
            return
        with torch.no_grad():
            rows = output.detach().movedim(call.channel_dim, -1).flatten(0, -2)
            outputs = rows if "output_mean" in wanted else None
            add(name, of_rows(input_rows(call), outputs, wanted, dtype))

    chosen = {name: parameters[name] for name in names.values()}
    if "curvature" in result.needs:
        batches = list(batches)
        _curve(model, batches, names, likelihood or Likelihood(), add, dtype)
        if result.needs == {"curvature"}:
            return result
    seen = 0
    with undisturbed(model), torch.set_grad_enabled(backward), LinearCalls(after=watch):
        if backward:
            for parameter in chosen.values():
                parameter.requires_grad_(True)
        for seen, batch in enumerate(batches, start=1):  # noqa: B007
            if not backward:
                run(model, batch)
                continue
            found = squared_gradients(model, batch, chosen, loss_fn, generator, dtype)
            for name, squares in found.items():
                add(name, Moments(parts={"gradient_squares": as_matrix(squares)}))
    if seen == 0:
        raise ValueError("input statistics need at least one calibration batch (got none)")
    return result


def _curve(
    model: nn.Module,
    batches: list[Any],
    names: dict[int, str],
    likelihood: Likelihood,
    add: Callable[[str, Moments], None],
    dtype: torch.dtype,
) -> None:
    """Gradients at the outputs of weights, by backward passes of their own."""
    sums: dict[str, torch.Tensor] = {}

    def form(name: str, found: torch.Tensor) -> None:
        sums[name] = sums[name].add_(found) if name in sums else found

    watch, predictions = OutputGradients(names, form, dtype), 0.0
    with undisturbed(model):
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        asked = settled(model, batches, likelihood)
        for batch in batches:
            predictions += add_gradients(model, batch, watch, asked)
    # Experts that no token reached in some batch count with all predictions all the same.
    for name, found in sums.items():
        add(name, Moments(predictions=predictions, parts={"output_gradients": found}))
