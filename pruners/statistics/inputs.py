"""Statistics of the inputs of weights: what solvers know about the data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from pruners.statistics.calls import Call, LinearCalls, input_rows
from pruners.statistics.running import forward, undisturbed

STATISTICS = ("norms", "hessian")


def input_statistics(
    model: nn.Module,
    batches: Iterable[Any],
    weights: Iterable[str],
    needs: Iterable[str] = STATISTICS,
) -> dict[str, dict[str, torch.Tensor]]:
    r"""Second moments of the inputs of linear maps and convolutions, in one pass over the batches.

        hessian = Σ x xᵀ / samples,      norms = √ diag(hessian)

    where x runs over tokens, or over the patches a convolution sees. Groups of a grouped
    convolution share one statistic, their average.

    Args:
        model: runs in evaluation mode and is left as it was.
        batches: example inputs (a tuple of arguments, a mapping of keywords, or one tensor).
        weights: names of the weights to describe.
        needs: any of "norms" and "hessian"; norms alone need no square matrices.

    Returns:
        Weight name → statistic → float32 tensor (float64 for float64 inputs) over the columns of
        `pruners.solvers.as_matrix`: norms (columns,), hessian (columns, columns). Weights that the
        forward does not use through linear maps and convolutions are missing.

    Raises:
        ValueError: no batches, an unknown statistic, or a name that is not a parameter.
    """
    wanted = frozenset(needs)
    unknown = sorted(wanted - set(STATISTICS))
    if unknown:
        raise ValueError(
            f'unknown statistic "{unknown[0]}": expected one of {", ".join(STATISTICS)}'
        )
    parameters = dict(model.named_parameters())
    names = {}
    for name in weights:
        if name not in parameters:
            raise ValueError(f'the model has no parameter "{name}" to collect statistics for')
        names[id(parameters[name])] = name
    moments: dict[str, torch.Tensor] = {}
    samples: dict[str, int] = {}

    def watch(call: Call) -> None:
        name = names.get(id(call.weight))
        if name is None:
            return
        rows = input_rows(call)
        rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
        found = rows.T @ rows if "hessian" in wanted else rows.square().sum(0)
        moments[name] = moments[name].add_(found) if name in moments else found
        samples[name] = samples.get(name, 0) + rows.shape[0]

    seen = 0
    with undisturbed(model), torch.no_grad(), LinearCalls(watch):
        for seen, batch in enumerate(batches, start=1):  # noqa: B007
            forward(model, batch)
    if seen == 0:
        raise ValueError("input statistics need at least one calibration batch (got none)")
    result = {}
    for name, moment in moments.items():
        mean = moment / max(samples[name], 1)
        squares = mean.diagonal() if mean.ndim == 2 else mean
        every = {"norms": squares.sqrt(), "hessian": mean}
        result[name] = {key: every[key] for key in STATISTICS if key in wanted}
    return result
