r"""Curvature of the output: how much a network's predictions care about each output of a layer.

To second order, changing a weight by ΔW moves the predictions by

    KL ≈ ½ tr(G ΔW H ΔWᵀ),      H = E[x xᵀ],      G = Σ_places E[g gᵀ],

x what goes into the layer, g the gradient of the log-likelihood at what comes out, if the two are
independent (the Kronecker-factored Fisher of Martens & Grosse 2015, eq. 1–4). The expectation is
over the network's own predictions, so there are no labels (`pruners.statistics.likelihood`).

Groups of a convolution are layers of their own, and so are the slices of a stack of matrices (the
experts of a mixture): between them G is 0. The groups of a transposed convolution, whose weight has
the same rows for all of them, share their sum. Places of a layer, and uses of a weight that the
forward reads several times, add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol
from warnings import warn

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs.calls.running import run
from pruners.statistics.calls import Call, LinearCalls, Watched
from pruners.statistics.calls.rows import of_slices, output_blocks, output_rows
from pruners.statistics.likelihood import (
    CHUNK,
    FEW,
    TEMPERATURES,
    Carried,
    Likelihood,
    LossFunction,
    NoCurvatureError,
    choice,
    direction,
    generators_of,
    scores_of,
)
from pruners.statistics.moments import gram
from pruners.statistics.recompute import recomputed

LARGEST = 4096
"""Outputs beyond which only the diagonal of G is kept."""

UNREAD = "no linear map or convolution that is measured reads it"
BOTH_WAYS = "it is multiplied from both sides"
SWITCHED_OFF = "the forward switches gradients off where it is read (no_grad, inference_mode)"
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
        ValueError: a loss that is no scalar.
        NoCurvatureError: an output without scores, or one that depends on no weight smoothly.
    """
    watch = OutputGradients(watched, dtype)
    kept: AbstractContextManager = nullcontext()
    if likelihood.recompute:
        kept = recomputed(model, lambda: LinearCalls(after=watch.again))
    with kept:
        if likelihood.loss_fn is not None:
            predictions = _of_loss(model, batches, watch, likelihood.loss_fn)
        else:
            predictions = of_scores(model, batches, watch, likelihood)
    unreached = {name: watch.called.get(name, UNREAD) for name in watched.parameters}
    sums = {name: found for name, found in watch.sums.items() if name not in watched.both}
    unreached |= dict.fromkeys(watched.both, BOTH_WAYS)
    return Curvature(sums, predictions, {n: r for n, r in unreached.items() if n not in sums})


class Watch(Protocol):
    """What is formed inside backward passes."""

    start: torch.Tensor
    """What the graph depends on, in place of the parameters."""
    sums: dict[str, torch.Tensor]
    """Name → what was formed so far."""
    called: dict[str, str]
    """Name → why no gradient comes, if none does."""

    def after(self, call: Call, output: torch.Tensor) -> torch.Tensor | None:
        """See `LinearCalls`."""


class OutputGradients:
    """Forms Σ g gᵀ inside the backward pass, at the outputs of weights.

    Args:
        watched: the weights.
        dtype: sums are at least this wide.
    """

    def __init__(self, watched: Watched, dtype: torch.dtype = torch.float32) -> None:
        self.start = torch.zeros((), requires_grad=True)
        """What the graph depends on, in place of the parameters."""
        self.sums: dict[str, torch.Tensor] = {}
        self.called: dict[str, str] = {}
        """Name → why no gradient comes, if none does."""
        self._watched, self._dtype = watched, dtype

    def after(self, call: Call, output: torch.Tensor) -> torch.Tensor | None:
        """For `LinearCalls`: hook the output, which begins the graph if none has before it."""
        name = self._watched.name(call)
        if name is None:
            return None
        if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
            self.called.setdefault(name, SWITCHED_OFF)
            return None
        self.called[name] = CUT_OFF
        if not output.requires_grad:
            output = begun(self.start, output)
        # What the hook holds stays in memory: not the input.
        made_by = replace(call, input=call.input[:0].detach(), bias=None)

        def form(gradient: torch.Tensor) -> None:
            if made_by.slices is None:
                blocks = output_blocks(gradient.detach(), made_by.channel_dim, made_by.groups)
                self._form(name, blocks if made_by.blocks > 1 else blocks.flatten(0, 1)[None])
            else:
                rows = output_rows(gradient.detach(), made_by.channel_dim)
                self._form_slices(name, rows, made_by)

        output.register_hook(form)
        return output

    def again(self, call: Call, output: torch.Tensor) -> torch.Tensor | None:
        """For `LinearCalls`, when a block is computed once more: the same graph, without hooks."""
        if output.requires_grad or not torch.is_grad_enabled() or not self._watched.name(call):
            return None
        return begun(self.start, output)

    def _form(self, name: str, rows: torch.Tensor) -> None:
        """Add gradients, (groups, samples, out of a group)."""
        groups, _, size = rows.shape
        dtype = torch.promote_types(rows.dtype, self._dtype)
        if size == 1 or groups * size > LARGEST:
            parts = rows.split(max(1, CHUNK // (groups * size)), dim=1)
            found = torch.stack([part.to(dtype).square().sum(1) for part in parts]).sum(0).flatten()
        elif groups == 1:
            found = gram(rows[0].to(dtype))
        else:
            found = _block_diagonal(gram(rows.to(dtype)))
        self._add(name, found)

    def _form_slices(self, name: str, rows: torch.Tensor, call: Call) -> None:
        """Add gradients, (places, out), at the slices of a stack that they come from."""
        rows = rows.to(torch.promote_types(rows.dtype, self._dtype))
        each = of_slices(rows, call)
        if rows.shape[1] == 1 or call.groups * rows.shape[1] > LARGEST:
            self._add(name, torch.cat([part.square().sum(0) for part in each]))
        else:
            self._add(name, _block_diagonal(torch.stack([gram(part) for part in each])))

    def _add(self, name: str, found: torch.Tensor) -> None:
        self.sums[name] = self.sums[name].add_(found) if name in self.sums else found


def begun(start: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """The output as it is, in a graph that begins here."""
    found: torch.Tensor = _Begun.apply(start, output)
    return found


class _Begun(torch.autograd.Function):
    """An output at which a graph begins: as it is, with a gradient that goes no further."""

    @staticmethod
    def forward(ctx: Any, start: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        return output.clone()

    @staticmethod
    def backward(ctx: Any, _: torch.Tensor) -> tuple[None, None]:
        return None, None


def _block_diagonal(blocks: torch.Tensor) -> torch.Tensor:
    """(groups, size, size) → (groups · size, groups · size)."""
    groups, size, _ = blocks.shape
    full = blocks.new_zeros(groups, size, groups, size)
    index = torch.arange(groups, device=blocks.device)
    full[index, :, index] = blocks
    return full.reshape(groups * size, groups * size)


def _of_loss(
    model: nn.Module, batches: Sequence[Any], watch: OutputGradients, loss_fn: LossFunction
) -> float:
    """Backward passes from a loss; the number of batches."""
    for batch in batches:
        with torch.enable_grad(), LinearCalls(after=watch.after):
            loss = loss_fn(model, batch)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            tensor = isinstance(loss, torch.Tensor)
            kind = f"shape {tuple(loss.shape)}" if tensor else type(loss).__name__
            raise ValueError(f"curvature needs a scalar loss (got {kind})")
        _pull_back(loss, watch, 1, "loss")
    return float(len(batches))


def of_scores(model: nn.Module, batches: Sequence[Any], watch: Watch, asked: Likelihood) -> float:
    """Backward passes from scores; the number of predictions, times draws.

    What is to be chosen shows when the first draw at the lowest temperature is made. Mostly that
    was the right one, and no forward pass went into the choice.
    """
    tried = TEMPERATURES if asked.temperature is None else (asked.temperature,)
    carried = {temperature: Carried() for temperature in tried}
    first, made = tried[0], 1 if asked.temperature is None else asked.draws or 1
    _pass(model, batches, watch, first, range(made), asked.seed, carried)
    chosen, draws = choice(asked, carried)
    if chosen != first:
        watch.sums.clear()
        made = 0
    if made < draws:
        _pass(model, batches, watch, chosen, range(made, draws), asked.seed, {})
    found = carried[chosen]
    if asked.temperature is not None and found.count and found.share < FEW:
        warn(
            f"few predictions carry the curvature at temperature {chosen:g} (as many as "
            f"{found.share:.1%} of them would, each alike): the model is sure of nearly all; leave "
            "the temperature out, or choose a higher one",
            stacklevel=5,
        )
    return float(found.count * draws)


def _pass(
    model: nn.Module,
    batches: Sequence[Any],
    watch: Watch,
    temperature: float,
    draws: range,
    seed: int,
    carried: Mapping[float, Carried],
) -> None:
    """A forward pass, and a backward pass for each draw; `carried` takes the predictions in."""
    for batch in batches:
        batch = pytree.tree_map_only(torch.Tensor, _plain, batch)
        with torch.enable_grad(), LinearCalls(after=watch.after):
            scores, counted = scores_of(run(model, batch), batch)
        if counted.ndim == 0:
            scores, counted = scores[None], counted[None]
        for each, one in carried.items():
            one.add(scores, counted, each)
        seeds = [f"{seed} {draw}" for draw in draws]
        end = _Drawn.apply(scores, _drawing(scores, counted, temperature, batch, seeds))
        del scores  # the draws let go of them
        _pull_back(end, watch, len(draws), "output")


def _plain(value: torch.Tensor) -> torch.Tensor:
    """Without a graph before it; what inference mode made may not take part in one."""
    return value.clone() if value.is_inference() else value.detach()


class _Drawn(torch.autograd.Function):
    """A scalar whose gradients at the scores are draws, made when they are asked for.

    So neither the scores nor a draw, which are large where there are many classes, stay in memory
    when the backward pass has left them behind.
    """

    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, draw: Callable[[], torch.Tensor]) -> torch.Tensor:
        ctx.draw = draw
        return scores.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.draw(), None


def _drawing(
    scores: torch.Tensor,
    counted: torch.Tensor,
    temperature: float,
    batch: Any,
    seeds: list[str],
) -> Callable[[], torch.Tensor]:
    """One draw after the other; with the last one the scores go."""
    held, left = [scores.detach()], list(seeds)

    def draw() -> torch.Tensor:
        generators = generators_of(batch, counted, left.pop(0))
        return direction(held[0] if left else held.pop(), counted, temperature, generators)

    return draw


def _why_none(watch: Watch) -> str:
    if not watch.called:
        return "no linear map or convolution that is measured reads one"
    if set(watch.called.values()) == {SWITCHED_OFF}:
        return "the forward switches gradients off (no_grad, inference_mode)"
    return "the forward blocks gradients (detach, argmax or whole numbers)"


def _pull_back(end: torch.Tensor, watch: Watch, passes: int, what: str) -> None:
    """Backward passes from a scalar to where the graph starts."""
    if not end.requires_grad:
        raise NoCurvatureError(
            f"the {what} does not depend smoothly on any measured weight: {_why_none(watch)}"
        )
    for left in reversed(range(passes)):
        torch.autograd.grad(end, watch.start, retain_graph=left > 0, allow_unused=True)
