r"""Curvature of the output: how much a network's predictions care about each output of a layer.

To second order, changing a weight by ΔW moves the predictions by

    KL ≈ ½ tr(G ΔW H ΔWᵀ),      H = E[x xᵀ],      G = Σ_places E[g gᵀ],

x what goes into the layer, g the gradient of the log-likelihood at what comes out, if the two are
independent (the Kronecker-factored Fisher of Martens & Grosse 2015, eq. 1–4). The expectation is
over the network's own predictions, so there are no labels: with p the softmax of its scores,
gradients are drawn from the normal distribution of covariance diag(p) − ppᵀ, which is that of the
gradient for labels drawn from p, without their rare and large values.

A network that is sure of its calibration data has p ≈ one-hot, and few examples carry all of the
gradient. Scores are then divided by a temperature; at ∞ all directions of the scores count alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import ceil, inf, isinf
from typing import Any, TypeAlias
from zlib import crc32

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs.calls.running import run
from pruners.statistics.calls import Call, LinearCalls

LossFunction: TypeAlias = Callable[[nn.Module, Any], torch.Tensor]

TEMPERATURES = (2.0, 4.0, 8.0, inf)
"""Those that are tried, in this order, where none is given: at 1, few predictions count too much
(docs/expected-loss.md)."""

SPREAD = 0.5
"""Share of the predictions that must carry the gradient: (Σ w)² / Σ w², w its expected square."""

ENOUGH, MOST = 8192, 4
"""Predictions for which one draw is enough, and draws at most."""

LARGEST = 4096
"""Outputs beyond which only the diagonal of G is kept."""


@dataclass(frozen=True)
class Likelihood:
    """Of what the gradients are taken.

    Args:
        temperature: of the softmax of the scores; inf for all directions alike. None for the lowest
            of `TEMPERATURES` at which half of the predictions or more carries the gradient.
        draws: backward passes a batch; None for as many as few predictions need, at most four.
        loss_fn: (model, batch) → scalar: the gradient of this loss instead, summed over the
            examples of a batch or averaged (budgets do not change with its scale).
        seed: of the draws.
    """

    temperature: float | None = None
    draws: int | None = None
    loss_fn: LossFunction | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"temperature must be above 0 (got {self.temperature})")
        if self.draws is not None and self.draws < 1:
            raise ValueError(f"draws must be at least 1 (got {self.draws})")


class NoCurvatureError(ValueError):
    """The output depends smoothly on nothing that is measured, or is no score at all."""


def settled(model: nn.Module, batches: Iterable[Any], asked: Likelihood) -> Likelihood:
    """A likelihood with nothing left to choose, by one forward pass over the batches.

    Args:
        model: in evaluation mode.
        batches: inputs of the model.
        asked: what is given already.
    """
    if asked.loss_fn is not None or (asked.temperature is not None and asked.draws is not None):
        return Likelihood(asked.temperature, asked.draws or 1, asked.loss_fn, asked.seed)
    found: dict[float, list[torch.Tensor]] = {t: [] for t in TEMPERATURES}
    rows = 0
    with torch.no_grad():
        for batch in batches:
            scores, weight = scores_of(run(model, batch), batch)
            rows += int(weight.sum())
            for t, parts in found.items():
                p = (scores / t).softmax(-1)
                parts.append(((1 - p.square().sum(-1)) * weight)[weight > 0])
    temperature = asked.temperature
    if temperature is None:
        shares = {t: carried(torch.cat(parts)) for t, parts in found.items()}
        temperature = next((t for t, share in shares.items() if share >= SPREAD), inf)
    draws = asked.draws or min(MOST, max(1, ceil(ENOUGH / max(1, rows))))
    return Likelihood(temperature, draws, None, asked.seed)


def carried(weight: torch.Tensor) -> float:
    """(Σ w)² / (n Σ w²): the share of predictions that carries the gradient; 0 for none."""
    total = weight.double().square().sum() * len(weight)
    return float(weight.double().sum().square() / total) if total > 0 else 0.0


def scores_of(output: Any, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of a forward, and which of its predictions count.

    Args:
        output: of the model: a tensor, an object with `logits`, or a tree with a tensor first.
        batch: its input; an `attention_mask` of the shape of the predictions leaves padding out.

    Returns:
        (..., classes) in float32 or wider, and (...) of zeros and ones.

    Raises:
        NoCurvatureError: no floating-point tensor in the output.
    """
    scores = getattr(output, "logits", None)
    if not isinstance(scores, torch.Tensor):
        leaves = pytree.tree_leaves(dict(output) if hasattr(output, "items") else output)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        scores = next((t for t in tensors if t.is_floating_point() and t.ndim), None)
    if scores is None or not scores.is_floating_point():
        raise NoCurvatureError(
            "curvature needs an output of scores, a floating-point tensor (got "
            f"{type(output).__name__}); pass a loss, or wrap the model so that it returns them"
        )
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    rows = scores.shape[:-1]
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if isinstance(mask, torch.Tensor) and mask.shape == rows:
        return scores, mask.to(scores)
    return scores, scores.new_ones(rows)


def direction(
    scores: torch.Tensor, temperature: float, generators: list[torch.Generator]
) -> torch.Tensor:
    r"""A draw from N(0, diag(p) − ppᵀ) of every prediction: √p ∘ n − p (√pᵀ n), n ~ N(0, I).

    At temperature ∞ it is (n − n̄) / √classes; a single score has n itself.

    Args:
        scores: (..., classes).
        temperature: of p.
        generators: of the examples along the first dimension, or one for all; on the CPU.
    """
    scores = scores.detach()
    shape = scores.shape if len(generators) == 1 else scores.shape[1:]
    drawn = [torch.randn(shape, generator=g, dtype=scores.dtype) for g in generators]
    noise = (drawn[0] if len(drawn) == 1 else torch.stack(drawn)).reshape(scores.shape)
    noise = noise.to(scores.device)
    classes = scores.shape[-1]
    if classes == 1:
        return noise
    if isinf(temperature):
        return (noise - noise.mean(-1, keepdim=True)) / classes**0.5
    p = (scores / temperature).softmax(-1)
    root = p.sqrt()
    return root * noise - p * (root * noise).sum(-1, keepdim=True)


def generators_of(batch: Any, examples: int, seed: int) -> list[torch.Generator]:
    """Random numbers of every example, by what it holds.

    So draws stay the same however examples are batched, ordered, or divided over processes.

    Args:
        batch: what the model runs on.
        examples: along the first dimension of its output.
        seed: of all.
    """
    leaves = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, torch.Tensor)]
    rows = [leaf for leaf in leaves if leaf.ndim and len(leaf) == examples]
    alone = not rows or any(leaf.is_meta for leaf in leaves)
    found = []
    for i in range(1 if alone else examples):
        value = seed
        for leaf in leaves if alone else [row[i] for row in rows]:
            plain = leaf.detach().contiguous().cpu().reshape(-1).view(torch.uint8)
            value = crc32(plain.numpy().tobytes(), value)
        found.append(torch.Generator().manual_seed(value))
    return found


class OutputGradients:
    """Watches weights of a model and forms G inside the backward pass.

    No gradient of a weight is computed: parameters stand still, and the first layers that are
    watched begin the graph.

    Args:
        names: id of a weight → its name.
        add: (name, Σ g gᵀ over the places of a batch, (out, out), or its diagonal, (out,)).
        dtype: sums are at least this wide.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        add: Callable[[str, torch.Tensor], None],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.starts: list[torch.Tensor] = []
        self._names, self._add, self._dtype = names, add, dtype

    def after(self, call: Call, output: torch.Tensor) -> torch.Tensor | None:
        """For `LinearCalls`: hook the output of a watched weight."""
        name = self._names.get(id(call.weight))
        if name is None or not torch.is_grad_enabled() or not output.is_floating_point():
            return None
        if not output.requires_grad:
            start = output.detach().requires_grad_()
            self.starts.append(start)
            output = start.clone()
        side = call.channel_dim

        def form(gradient: torch.Tensor) -> None:
            rows = gradient.detach().movedim(side, -1).flatten(0, -2)
            rows = rows.to(torch.promote_types(rows.dtype, self._dtype))
            large = rows.shape[1] > LARGEST
            self._add(name, rows.square().sum(0) if large else rows.T @ rows)

        output.register_hook(form)
        return output


def add_gradients(
    model: nn.Module,
    batch: Any,
    watch: OutputGradients,
    likelihood: Likelihood,
) -> float:
    """One forward pass and the backward passes of a batch.

    Args:
        model: in evaluation mode, its parameters without gradients.
        batch: what the model, or the loss, takes.
        watch: receives the sums.
        likelihood: with a temperature and draws.

    Returns:
        Predictions that were counted, times draws; 1 for a loss.

    Raises:
        ValueError: a loss that is no scalar.
        NoCurvatureError: nothing that the output depends on smoothly.
    """
    watch.starts.clear()
    with torch.enable_grad(), LinearCalls(after=watch.after):
        if likelihood.loss_fn is not None:
            loss = likelihood.loss_fn(model, batch)
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
                raise ValueError(
                    f"curvature needs a scalar loss (got shape {tuple(loss.shape)})"
                    if isinstance(loss, torch.Tensor)
                    else f"curvature needs a scalar loss (got a {type(loss).__name__})"
                )
            pulls, end, count = [None], loss, 1.0
        else:
            end, weight = scores_of(run(model, batch), batch)
            draws = likelihood.draws or 1
            temperature = 1.0 if likelihood.temperature is None else likelihood.temperature
            examples = len(end) if end.ndim > 1 else 1
            generators = generators_of(batch, examples, likelihood.seed)
            pulls = [
                direction(end, temperature, generators) * weight[..., None] for _ in range(draws)
            ]
            count = float(weight.sum()) * draws
        if not end.requires_grad:
            raise NoCurvatureError(
                "the output does not depend smoothly on any measured weight: the forward blocks "
                "gradients (no_grad, detach, argmax or whole numbers); there is no curvature to "
                'measure, so choose another budget, such as budget="uniform"'
            )
        for i, pull in enumerate(pulls):
            torch.autograd.grad(
                end, watch.starts, pull, retain_graph=i + 1 < len(pulls), allow_unused=True
            )
    watch.starts.clear()
    return count
