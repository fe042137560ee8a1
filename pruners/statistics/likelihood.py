r"""The likelihood of a network's own predictions: directions that have its Fisher information.

The Fisher matrix of the scores of a prediction is diag(p) − ppᵀ, p their softmax. It is the
covariance of the gradient of −log p at labels drawn from p, and of a normal draw

    √p ∘ n − p (√pᵀ n),      n ~ N(0, I),

which has none of the rare and large values that unlikely labels give.

A network that is sure of its calibration data has p ≈ one-hot, and few predictions carry all of the
gradient. Scores are then divided by a temperature; at ∞ all directions of the scores count alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, inf, isinf
from typing import Any, TypeAlias
from zlib import crc32

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs.calls.running import as_inputs

LossFunction: TypeAlias = Callable[[nn.Module, Any], torch.Tensor]

TEMPERATURES = (2.0, 4.0, 8.0, inf)
"""Those that are tried, in this order, where none is given: at 1, few predictions count too much
(docs/expected-loss.md)."""

SPREAD = 0.5
"""Share of the predictions that must carry the gradient: (Σ w)² / (n Σ w²), w = 1 − Σ p²."""

FEW = 0.1
"""Share of the predictions that is told of, where the temperature was given."""

ENOUGH, MOST = 8192, 4
"""Predictions for which one draw is enough, and draws at most."""

CHUNK = 1 << 20
"""Scores that are turned into probabilities at a time: memory beside the scores themselves."""


@dataclass(frozen=True)
class Likelihood:
    """Of what the gradients are taken, and how.

    Args:
        temperature: of the softmax of the scores; inf for all directions alike. None for the lowest
            of `TEMPERATURES` at which half of the predictions or more carries the gradient.
        draws: backward passes a batch; None for as many as few predictions need, at most four.
            Statistics of several processes, or of parts of the data, that are to be merged need
            both given.
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


class NoCurvatureError(ValueError):
    """The output depends smoothly on nothing that is measured, or is no score at all."""


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
        rows = scores.detach().flatten(0, -2)
        here = counted.flatten().nonzero().flatten()
        self.count += len(here)
        if rows.shape[1] == 1 or isinf(temperature):  # every prediction is as sure as the others
            self.total += len(here)
            self.squares += len(here)
            return
        for index in here.split(at_a_time(rows)):
            weight = 1 - _wide(rows[index]).div_(temperature).softmax(-1).square_().sum(-1).double()
            self.total += float(weight.sum())
            self.squares += float(weight.square().sum())

    @property
    def share(self) -> float:
        """(Σ w)² / (n Σ w²), 1 if all carry it alike; 0 if none does."""
        return self.total**2 / (self.count * self.squares) if self.squares > 0 else 0.0


def choice(asked: Likelihood, carried: Mapping[float, Carried]) -> tuple[float, int]:
    """The temperature and the draws of a likelihood.

    Args:
        asked: what is given already.
        carried: temperature → how many predictions carry the gradient, the lowest first.
    """
    temperature = next((t for t, one in carried.items() if one.share >= SPREAD), [*carried][-1])
    rows = max(1, carried[temperature].count)
    return temperature, asked.draws or min(MOST, ceil(ENOUGH / rows))


def scores_of(output: Any, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores of a forward, and which of its predictions count.

    Args:
        output: of the model: a tensor, an object with `logits`, or a tree with a tensor first.
            Classes lie along `class_dimension`; with one number for every example of the batch,
            (examples,), each of them is a score of its own.
        batch: its input; an `attention_mask` of the shape of the predictions leaves padding out.

    Returns:
        (..., classes), and bool, (...).

    Raises:
        NoCurvatureError: no floating-point tensor in the output.
    """
    scores = getattr(output, "logits", None)
    if not isinstance(scores, torch.Tensor):
        leaves = pytree.tree_leaves(dict(output) if hasattr(output, "items") else output)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.ndim]
        scores = next((t for t in tensors if t.is_floating_point()), (*tensors, None)[0])
    if scores is None or not scores.is_floating_point():
        raise NoCurvatureError(
            "curvature needs an output of scores, a floating-point tensor (got "
            f"{type(output).__name__ if scores is None else scores.dtype}); wrap the model "
            "so that it returns them"
        )
    if scores.ndim == 1 and _rows(batch, len(scores)):
        scores = scores[:, None]
    scores = scores.movedim(class_dimension(scores, batch), -1)
    rows = scores.shape[:-1]
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if isinstance(mask, torch.Tensor) and mask.shape == rows:
        return scores, mask.to(scores.device).bool()
    return scores, torch.ones(rows, dtype=torch.bool, device=scores.device)


def class_dimension(scores: torch.Tensor, batch: Any) -> int:
    """The dimension of scores along which classes lie.

    The last one: (examples, classes), (examples, tokens, classes). Of maps, with four dimensions or
    more, it is dimension 1, (examples, classes, height, width), as in
    `torch.nn.functional.cross_entropy`, where the model reads maps as well: floating-point inputs
    of as many dimensions. Maps whose last dimension alone is not as in an input, (examples, height,
    width, classes) of (examples, channels, height, width) or (examples, height, width, channels),
    have their classes there.

    Args:
        scores: (examples, ...).
        batch: what the model read.
    """
    read = [
        leaf
        for leaf in _tensors(batch)
        if leaf.ndim == scores.ndim >= 4 and leaf.is_floating_point()
    ]
    sizes = scores.shape[1:-1]
    last = any(sizes in (leaf.shape[2:], leaf.shape[1:-1]) for leaf in read)
    first = any(scores.shape[2:] == leaf.shape[2:] for leaf in read)
    return -1 if not read or (last and not first) else 1


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
    rows = scores.detach().flatten(0, -2)
    drawn = torch.zeros_like(rows)
    wide = torch.promote_types(rows.dtype, torch.float32)
    each = counted.numel() // max(1, len(generators))  # a batch may be empty
    for i, generator in enumerate(generators):
        here = counted.flatten()[i * each : (i + 1) * each].nonzero().flatten() + i * each
        for index in here.split(at_a_time(rows)):
            shape = len(index), rows.shape[1]
            noise = torch.randn(shape, generator=generator, dtype=wide, device=rows.device)
            drawn[index] = noise.to(drawn.dtype)
    for some, given in zip(*(each.split(at_a_time(rows)) for each in (drawn, rows)), strict=True):
        some.copy_(_coloured(_wide(some), _wide(given), temperature))
    return drawn.reshape(scores.shape)


def at_a_time(rows: torch.Tensor) -> int:
    """Rows of scores, (predictions, classes), that are turned into probabilities at a time."""
    return max(1, CHUNK // max(1, rows.shape[1]))


def _coloured(noise: torch.Tensor, scores: torch.Tensor, temperature: float) -> torch.Tensor:
    classes = scores.shape[-1]
    if classes == 1:
        return noise
    if isinf(temperature):
        return (noise - noise.mean(-1, keepdim=True)) / classes**0.5
    p = (scores / temperature).softmax(-1)
    rooted = noise.mul_(p.sqrt())
    return rooted.sub_(p.mul_(rooted.sum(-1, keepdim=True)))


def generators_of(batch: Any, counted: torch.Tensor, seed: str) -> list[torch.Generator]:
    """Random numbers of every example, by what it holds.

    So draws stay the same however examples are batched, padded, ordered, or divided over processes.

    Args:
        batch: what the model runs on.
        counted: bool, (examples, ...): predictions that count.
        seed: of all.

    Returns:
        One for every example; one for all where the batch is not divided as its predictions are.
    """
    examples = len(counted)
    leaves, rows = _tensors(batch), _rows(batch, examples)
    found = []
    for i in range(examples if rows else 1):
        value = crc32(seed.encode())
        for leaf in rows or leaves:
            plain = leaf.detach()
            if rows:
                same = counted.ndim > 1 and plain.shape[: counted.ndim] == counted.shape
                plain = plain[i][counted[i].to(plain.device)] if same else plain[i]
            value = crc32(plain.cpu().contiguous().reshape(-1).view(torch.uint8).numpy(), value)
        found.append(torch.Generator(counted.device).manual_seed(value))
    return found


def _tensors(batch: Any) -> list[torch.Tensor]:
    leaves = pytree.tree_leaves(as_inputs(batch))
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _rows(batch: Any, examples: int) -> list[torch.Tensor]:
    """Tensors of a batch that are divided into so many examples."""
    return [leaf for leaf in _tensors(batch) if leaf.ndim and len(leaf) == examples]


def _wide(scores: torch.Tensor) -> torch.Tensor:
    return scores.to(torch.promote_types(scores.dtype, torch.float32))
