r"""Curvature of the output: how much a network's predictions care about each output of a layer.

To second order, changing a weight by ΔW moves the predictions by

    KL ≈ ½ tr(G ΔW H ΔWᵀ),      H = E[x xᵀ],      G = Σ_places E[g gᵀ],

x what goes into the layer, g the gradient of the log-likelihood at what comes out, if the two are
independent (the Kronecker-factored Fisher of Martens & Grosse 2015, eq. 1–4). The expectation is
over the network's own predictions, so there are no labels (`pruners.statistics.likelihood`).

Groups of a convolution are layers of their own: between them G is 0. Places of a layer, and uses of
a weight that the forward reads several times, add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from warnings import warn

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs.calls.running import run
from pruners.statistics.calls import Call, LinearCalls, Watched
from pruners.statistics.likelihood import (
    SPREAD,
    Carried,
    Likelihood,
    direction,
    generators_of,
    scores_of,
    settled,
)
from pruners.statistics.recompute import recomputed
from pruners.statistics.rows import output_blocks

LARGEST = 4096
"""Outputs beyond which only the diagonal of G is kept."""

UNREAD = "no linear map or convolution that is measured reads it"
BOTH_WAYS = "it is multiplied from both sides"
SWITCHED_OFF = "the forward switches gradients off where it is read (no_grad)"
CUT_OFF = "the output does not depend on it smoothly (detach, argmax or whole numbers)"


@dataclass
class Curvature:
    """What the backward passes over some batches found.

    Args:
        sums: weight name → Σ g gᵀ, (out, out), or its diagonal, (out,).
        predictions: that were counted, times draws; batches for a loss.
        unreached: name of a weight without a gradient at its outputs → why.
    """

    sums: dict[str, torch.Tensor]
    predictions: float
    unreached: dict[str, str]


def curvature(
    model: nn.Module,
    batches: Sequence[Any],
    watched: Watched,
    likelihood: Likelihood,
    dtype: torch.dtype = torch.float32,
) -> Curvature:
    """Σ g gᵀ of weights over batches.

    No gradient of a weight is computed, and the first layers that are named begin the graph.

    Args:
        model: in evaluation mode, its parameters without gradients.
        batches: what the model, or the loss, takes.
        watched: the weights.
        likelihood: of what the gradients are taken.
        dtype: sums are at least this wide.

    Raises:
        ValueError: a loss that is no scalar, an output without scores, or one that depends on no
            watched weight smoothly.
    """
    chosen = settled(model, batches, likelihood)
    watch = OutputGradients(watched, dtype)
    # What was chosen is spread enough; what was asked for may not be.
    carried = None if likelihood.temperature is None else Carried()
    kept: AbstractContextManager = nullcontext()
    if likelihood.recompute:
        kept = recomputed(model, lambda: LinearCalls(after=watch.again))
    with kept:
        predictions = sum(_add(model, batch, watch, chosen, carried) for batch in batches)
    if carried is not None and carried.count and carried.share < SPREAD:
        warn(
            f"few predictions carry the curvature at temperature {likelihood.temperature:g} (as "
            f"many as {carried.share:.1%} of them would, each alike): the model is sure of nearly "
            "all; leave the temperature out, or choose a higher one",
            stacklevel=3,
        )
    unreached = {name: watch.called.get(name, UNREAD) for name in watched.parameters}
    sums = {name: found for name, found in watch.sums.items() if name not in watched.both}
    unreached |= dict.fromkeys(watched.both, BOTH_WAYS)
    return Curvature(sums, predictions, {n: r for n, r in unreached.items() if n not in sums})


class OutputGradients:
    """Forms Σ g gᵀ inside the backward pass, at the outputs of weights.

    Args:
        watched: the weights.
        dtype: sums are at least this wide.
    """

    def __init__(self, watched: Watched, dtype: torch.dtype = torch.float32) -> None:
        self.starts: list[torch.Tensor] = []
        self.sums: dict[str, torch.Tensor] = {}
        self.called: dict[str, str] = {}
        """Name → why no gradient comes, if none does."""
        self._watched, self._dtype = watched, dtype

    def after(self, call: Call, output: torch.Tensor) -> torch.Tensor | None:
        """For `LinearCalls`: hook the output, which begins the graph if none has before it."""
        name = self._watched.name(call)
        if name is None:
            return None
        if not torch.is_grad_enabled():
            self.called.setdefault(name, SWITCHED_OFF)
            return None
        self.called[name] = CUT_OFF
        if not output.requires_grad:
            self.starts.append(output := output.detach().requires_grad_())
            output = output.clone()
        # What the hook holds stays in memory: not the input.
        channel_dim, groups = call.channel_dim, call.groups

        def form(gradient: torch.Tensor) -> None:
            self._form(name, output_blocks(gradient.detach(), channel_dim, groups))

        output.register_hook(form)
        return output

    def again(self, call: Call, output: torch.Tensor) -> torch.Tensor | None:
        """For `LinearCalls`, when a block is computed once more: the same graph, without hooks."""
        if output.requires_grad or not torch.is_grad_enabled() or not self._watched.name(call):
            return None
        return output.detach().requires_grad_().clone()

    def _form(self, name: str, rows: torch.Tensor) -> None:
        """Add gradients, (groups, samples, out of a group)."""
        groups, _, size = rows.shape
        dtype = torch.promote_types(rows.dtype, self._dtype)
        if size == 1 or groups * size > LARGEST:
            found = torch.linalg.vector_norm(rows, dim=1, dtype=dtype).square().flatten()
        else:
            rows = rows.to(dtype)
            found = _block_diagonal(rows.mT @ rows)
        self.sums[name] = self.sums[name].add_(found) if name in self.sums else found


def _block_diagonal(blocks: torch.Tensor) -> torch.Tensor:
    """(groups, size, size) → (groups · size, groups · size)."""
    groups, size, _ = blocks.shape
    if groups == 1:
        return blocks[0]
    full = blocks.new_zeros(groups, size, groups, size)
    index = torch.arange(groups, device=blocks.device)
    full[index, :, index] = blocks
    return full.reshape(groups * size, groups * size)


def _add(
    model: nn.Module,
    batch: Any,
    watch: OutputGradients,
    likelihood: Likelihood,
    carried: Carried | None,
) -> float:
    """One forward pass and the backward passes of a batch; how many predictions it counts for."""
    watch.starts.clear()
    batch = pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, batch)
    with torch.enable_grad(), LinearCalls(after=watch.after):
        if likelihood.loss_fn is not None:
            end = likelihood.loss_fn(model, batch)
            counted = None
        else:
            end, counted = scores_of(run(model, batch), batch)
    if counted is None and (not isinstance(end, torch.Tensor) or end.numel() != 1):
        kind = f"shape {tuple(end.shape)}" if isinstance(end, torch.Tensor) else type(end).__name__
        raise ValueError(f"curvature needs a scalar loss (got {kind})")
    if not end.requires_grad:
        raise ValueError(
            f"the {'output' if counted is not None else 'loss'} does not depend smoothly on any "
            "measured weight: the forward blocks gradients (no_grad, detach, argmax or whole "
            "numbers), or calls none of them; there is no curvature to measure, so choose another "
            'budget, such as budget="uniform"'
        )
    draws, generators = 1, []
    if counted is not None:
        draws = likelihood.draws or 1
        temperature = 1.0 if likelihood.temperature is None else likelihood.temperature
        if counted.ndim == 0:
            end, counted = end[None], counted[None]
        if carried is not None:
            carried.add(end, counted, temperature)
        generators = generators_of(batch, counted, likelihood.seed)
    for left in reversed(range(draws)):
        pull = None
        if counted is not None:
            pull = direction(end, counted, temperature, generators)
        torch.autograd.grad(end, watch.starts, pull, retain_graph=left > 0, allow_unused=True)
    watch.starts.clear()
    return 1.0 if counted is None else float(counted.sum()) * draws
