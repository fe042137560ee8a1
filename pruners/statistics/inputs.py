"""Statistics of the inputs of weights: what solvers know about the data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn

from graphs.calls.running import run, undisturbed
from pruners.solvers.matrix import as_matrix
from pruners.statistics.calls import Call, LinearCalls, Watched
from pruners.statistics.calls.rows import column_blocks, input_blocks, output_blocks, output_rows
from pruners.statistics.collected import Statistics
from pruners.statistics.curvature import curvature
from pruners.statistics.gradients import LossFunction, squared_gradients
from pruners.statistics.likelihood import Likelihood, NoCurvatureError
from pruners.statistics.moments import Moments, embedded, of_rows, parts_of

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
    | output_means, output_variances | of the outputs; of a stack, of all slices | (out,) |
    | gradients | √ Σ_s g², g = ∂L_s/∂w of batch s | (out, columns) |
    | curvature | Σ g gᵀ / predictions (`pruners.statistics.curvature`) | (out, out), or (out,) |

    where x runs over tokens, or over the patches a convolution sees, in the order of the columns of
    `pruners.solvers.as_matrix`. Groups of a grouped convolution share one statistic, their average;
    those of a transposed one have columns of their own and share what is told of outputs. Slices of
    a stack (experts) share what is told of inputs, over all places that are routed to any of them.
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
        Statistics that merge with those of other batches, devices and processes. Of weights that
        no measured call reads (`pruners.statistics.calls`) they tell nothing, and no curvature of
        those that no gradient reaches: `Statistics.unreached` says why.

    Raises:
        ValueError: no batches, an unknown statistic, a name that is not a parameter, or a loss that
            is no scalar with a gradient.
        NoCurvatureError: the output depends smoothly on none of the weights.
    """
    watched = Watched(model, weights)
    result = Statistics(frozenset(needs), {name: Moments() for name in watched.parameters})
    wanted = parts_of(result.needs)
    backward = "gradients" in result.needs
    generator = torch.Generator().manual_seed(0)

    def watch(call: Call, output: torch.Tensor) -> None:
        name = watched.name(call)
        if name is None:
            return
        with torch.no_grad():
            for moments in _of_call(call, output.detach(), wanted, dtype):
                result.moments[name].merge_(moments)

    seen = 0
    if "curvature" in result.needs:
        batches = list(batches)
        if seen := len(batches):
            _curve(model, batches, watched, likelihood or Likelihood(), result, dtype)
    if result.needs != {"curvature"}:
        with undisturbed(model), torch.set_grad_enabled(backward), LinearCalls(after=watch):
            for parameter in watched.parameters.values() if backward else ():
                parameter.requires_grad_(True)
            for seen, batch in enumerate(batches, start=1):  # noqa: B007
                if not backward:
                    run(model, batch)
                    continue
                found = squared_gradients(
                    model, batch, watched.parameters, loss_fn, generator, dtype
                )
                for name, squares in found.items():
                    parts = {"gradient_squares": as_matrix(squares, watched.rows(name))}
                    result.moments[name].merge_(Moments(parts=parts))
    if seen == 0:
        raise ValueError("input statistics need at least one calibration batch (got none)")
    for name in watched.both:
        result.moments[name] = Moments()
    return result


def _of_call(
    call: Call, output: torch.Tensor, wanted: frozenset[str], dtype: torch.dtype
) -> Iterator[Moments]:
    """Moments of what a call multiplies, and of what comes out, to be merged."""
    blocks, told = input_blocks(call), "output_mean" in wanted
    if call.groups == call.blocks:
        outputs = output_rows(output, call.channel_dim) if told else None
        yield of_rows(blocks.flatten(0, 1), outputs, wanted, dtype)
        return
    # Groups of a transposed convolution have their own columns, and the same rows.
    made = output_blocks(output, call.channel_dim, call.groups) if told else [None] * call.groups
    width = blocks.shape[0] * blocks.shape[2]
    for rows, outputs, columns in zip(blocks, made, column_blocks(call), strict=True):
        yield embedded(of_rows(rows, outputs, wanted, dtype), columns, width)


def _curve(
    model: nn.Module,
    batches: list[Any],
    watched: Watched,
    likelihood: Likelihood,
    result: Statistics,
    dtype: torch.dtype,
) -> None:
    """Gradients at the outputs of weights, by backward passes of their own."""
    with torch.inference_mode(False), torch.enable_grad(), undisturbed(model):
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        found = curvature(model, batches, watched, likelihood, dtype)
    # Experts that no token reached count with all predictions all the same.
    for name, moments in result.moments.items():
        moments.predictions = found.predictions
        if name in found.sums:
            moments.parts["output_gradients"] = found.sums[name]
    result.unreached |= found.unreached
