r"""The likelihood of a network's own predictions: directions that have its Fisher information.

The Fisher matrix of the scores of a prediction is diag(p) − ppᵀ, p their softmax. It is the
covariance of the gradient of −log p at labels drawn from p, and of a normal draw

    √p ∘ n − p (√pᵀ n),      n ~ N(0, I),

which has none of the rare and large values that unlikely labels give.

A network that is sure of its calibration data has p ≈ one-hot, and few predictions carry all of the
gradient. Scores are then divided by a temperature; at ∞ all directions of the scores count alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil, inf, isinf
from typing import Any, TypeAlias
from zlib import crc32

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs.calls.running import as_inputs, run

LossFunction: TypeAlias = Callable[[nn.Module, Any], torch.Tensor]

TEMPERATURES = (1.0, 2.0, 4.0, inf)
"""Those that are tried, in this order, where none is given."""

SPREAD = 0.1
"""Share of the predictions that must carry the gradient: (Σ w)² / (n Σ w²), w = 1 − Σ p²."""

ENOUGH, MOST = 8192, 4
"""Predictions for which one draw is enough, and draws at most."""

CHUNK = 1 << 22
"""Scores that are turned into probabilities at a time."""


@dataclass(frozen=True)
class Likelihood:
    """Of what the gradients are taken, and how.

    Args:
        temperature: of the softmax of the scores; inf for all directions alike. None for the lowest
            of `TEMPERATURES` at which a tenth of the predictions or more carries the gradient.
        draws: backward passes a batch; None for as many as few predictions need, at most four.
        loss_fn: (model, batch) → scalar: the gradient of this loss instead, summed over the
            examples of a batch or averaged (budgets do not change with its scale).
        seed: of the draws.
        recompute: activations inside repeated blocks are computed again in the backward pass
            instead of being kept (`pruners.statistics.recompute`).
    """

    temperature: float | None = None
    draws: int | None = None
    loss_fn: LossFunction | None = None
    seed: int = 0
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.temperature is not None and not self.temperature > 0:
            raise ValueError(f"temperature must be above 0 (got {self.temperature})")
        if self.draws is not None and self.draws < 1:
            raise ValueError(f"draws must be at least 1 (got {self.draws})")


@dataclass
class Carried:
    """How many predictions carry the gradient.

    Args:
        count: predictions.
        total, squares: Σ w and Σ w², w = 1 − Σ p² the expected square of a prediction's gradient.
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, scores: torch.Tensor, counted: torch.Tensor, temperature: float) -> None:
        """Take predictions in: (..., classes), those that count, (...), and the temperature."""
        rows = scores.detach()[counted]
        for part in rows.split(max(1, CHUNK // max(1, rows.shape[-1]))):
            weight = 1 - (_wide(part) / temperature).softmax(-1).square().sum(-1).double()
            if part.shape[-1] == 1:  # the square of a single score is the same everywhere
                weight = torch.ones_like(weight)
            self.total += float(weight.sum())
            self.squares += float(weight.square().sum())
        self.count += len(rows)

    @property
    def share(self) -> float:
        """(Σ w)² / (n Σ w²), 1 if all carry it alike; 0 if none does."""
        return self.total**2 / (self.count * self.squares) if self.squares > 0 else 0.0


def settled(model: nn.Module, batches: Iterable[Any], asked: Likelihood) -> Likelihood:
    """A likelihood with nothing left to choose, by one forward pass over the batches.

    Statistics that are to be merged, of other batches or processes, need the same one.

    Args:
        model: in evaluation mode.
        batches: inputs of the model.
        asked: what is given already.
    """
    if asked.loss_fn is not None or (asked.temperature is not None and asked.draws is not None):
        return replace(asked, draws=asked.draws or 1)
    tried = TEMPERATURES if asked.temperature is None else (asked.temperature,)
    found = {temperature: Carried() for temperature in tried}
    with torch.no_grad():
        for batch in batches:
            scores, counted = scores_of(run(model, batch), batch)
            for temperature, carried in found.items():
                carried.add(scores, counted, temperature)
    temperature = next((t for t, carried in found.items() if carried.share >= SPREAD), tried[-1])
    rows = max(1, found[temperature].count)
    return replace(
        asked,
        temperature=temperature,
        draws=asked.draws or min(MOST, ceil(ENOUGH / rows)),
    )


def scores_of(output: Any, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of a forward, and which of its predictions count.

    Args:
        output: of the model: a tensor, an object with `logits`, or a tree with a tensor first.
        batch: its input; an `attention_mask` of the shape of the predictions leaves padding out.

    Returns:
        (..., classes), and bool, (...).

    Raises:
        ValueError: no floating-point tensor in the output.
    """
    scores = getattr(output, "logits", None)
    if not isinstance(scores, torch.Tensor):
        leaves = pytree.tree_leaves(dict(output) if hasattr(output, "items") else output)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        scores = next((t for t in tensors if t.is_floating_point() and t.ndim), None)
    if scores is None or not scores.is_floating_point():
        kind = scores.dtype if isinstance(scores, torch.Tensor) else type(output).__name__
        raise ValueError(
            f"curvature needs an output of scores, a floating-point tensor (got {kind}); pass a "
            "loss, or wrap the model so that it returns them"
        )
    rows = scores.shape[:-1]
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if isinstance(mask, torch.Tensor) and mask.shape == rows:
        return scores, mask.to(scores.device).bool()
    return scores, torch.ones(rows, dtype=torch.bool, device=scores.device)


def direction(
    scores: torch.Tensor,
    counted: torch.Tensor,
    temperature: float,
    generators: list[torch.Generator],
) -> torch.Tensor:
    r"""A draw from N(0, diag(p) − ppᵀ) for every prediction that counts, and 0 for the others.

    At temperature ∞ it is (n − n̄) / √classes; a single score has n itself.

    Args:
        scores: (examples, ..., classes).
        counted: bool, (examples, ...).
        temperature: of p.
        generators: of every example, or one for all.
    """
    scores = scores.detach()
    drawn = torch.zeros_like(scores)
    classes = scores.shape[-1]
    each = len(scores) if len(generators) == 1 else 1
    step = max(each, CHUNK // max(1, scores[0].numel()))
    for first in range(0, len(scores), step):
        part, some = scores[first : first + step], counted[first : first + step]
        part = _wide(part)
        noise = torch.zeros_like(part)
        for i in range(0, len(part), each):
            here = some[i : i + each]
            shape = (int(here.sum()), classes)
            noise[i : i + each][here] = torch.randn(
                shape,
                generator=generators[(first + i) // each],
                dtype=part.dtype,
                device=part.device,
            )
        drawn[first : first + step] = _coloured(noise, part, temperature)
    return drawn


def _coloured(noise: torch.Tensor, scores: torch.Tensor, temperature: float) -> torch.Tensor:
    classes = scores.shape[-1]
    if classes == 1:
        return noise
    if isinf(temperature):
        return (noise - noise.mean(-1, keepdim=True)) / classes**0.5
    p = (scores / temperature).softmax(-1)
    rooted = noise.mul_(p.sqrt())
    return rooted.sub_(p.mul_(rooted.sum(-1, keepdim=True)))


def generators_of(batch: Any, counted: torch.Tensor, seed: int) -> list[torch.Generator]:
    """Random numbers of every example, by what it holds.

    So draws stay the same however examples are batched, padded, ordered, or divided over processes.

    Args:
        batch: what the model runs on.
        counted: bool, (examples, ...): predictions that count.
        seed: of all.

    Returns:
        One for every example; one for all where the batch is not divided as its predictions are.
    """
    given = pytree.tree_leaves(as_inputs(batch))
    leaves = [leaf for leaf in given if isinstance(leaf, torch.Tensor)]
    examples = len(counted)
    rows = [leaf for leaf in leaves if leaf.ndim and len(leaf) == examples]
    found = []
    for i in range(examples if rows else 1):
        value = seed
        for leaf in rows or leaves:
            plain = leaf.detach()
            if rows:
                same = counted.ndim > 1 and plain.shape[: counted.ndim] == counted.shape
                plain = plain[i][counted[i].to(plain.device)] if same else plain[i]
            value = crc32(plain.cpu().contiguous().reshape(-1).view(torch.uint8).numpy(), value)
        found.append(torch.Generator(counted.device).manual_seed(value))
    return found


def _wide(scores: torch.Tensor) -> torch.Tensor:
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
