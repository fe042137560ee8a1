"""What a network is trained and judged for: loss, metrics and example inputs.

A batch is a pair (inputs, targets). A task knows how to feed the inputs to a model and what the
outputs mean, so that fitting, finetuning, evaluation and meta-training share one code path.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.data.split import Batch, Split

IGNORED = -100  # target of positions that do not count, as in torch.nn.functional.cross_entropy


class Metrics(Protocol):
    """Running figures of one pass over a split."""

    def update(self, outputs: Tensor, batch: Batch) -> None:
        """Take in the outputs of one batch."""

    def compute(self) -> dict[str, float]:
        """Return the figures of everything taken in so far."""


class Task(Protocol):
    """A loss and metrics for (inputs, targets) batches."""

    @property
    def score(self) -> str:
        """The metric that choices are made on."""

    @property
    def higher_is_better(self) -> bool:
        """The direction of the score."""

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits of a batch."""

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean loss, a scalar."""

    def metrics(self, split: Split) -> Metrics:
        """Return fresh metrics for a pass over the split."""

    def outcomes(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return (B, 2) float64: the sum and the count whose totals' ratio the score is made of."""

    def score_of(self, mean: float) -> float:
        """Return the score of such a ratio; the larger the mean, the larger the score."""

    def example_inputs(self, batch: Batch) -> tuple[Tensor, ...] | dict[str, Tensor]:
        """Return the model's arguments: a tuple, or a mapping of keyword arguments."""


def logits(outputs: Any) -> Tensor:
    """Return the logits in a model's output: a tensor, or a container that names or leads with it.

    Raises:
        TypeError: when no logits are found.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Mapping) and "logits" in outputs:
        return outputs["logits"]
    if hasattr(outputs, "logits"):
        return outputs.logits
    if isinstance(outputs, (tuple, list)) and outputs and isinstance(outputs[0], Tensor):
        return outputs[0]
    raise TypeError(
        f"the model must return logits: a tensor, a tuple that starts with one, or an object "
        f"with `logits` (got {type(outputs).__name__})"
    )


@dataclass(frozen=True)
class Classification:
    """One label an example: cross-entropy and accuracy.

    Shapes: inputs (B, ...), targets (B,) int64, logits (B, classes).
    """

    classes: int
    score: str = "accuracy"
    higher_is_better: bool = True

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return logits (B, classes)."""
        return logits(model(batch[0]))

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean cross-entropy in nats."""
        return F.cross_entropy(logits(outputs).float(), batch[1])

    def metrics(self, split: Split) -> Metrics:
        """Return running accuracy (in [0, 1]) and loss."""
        return _ClassificationMetrics(self.classes)

    def outcomes(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return 1 for a right answer, of 1."""
        right = (outputs.argmax(-1) == batch[1]).double().cpu()
        return torch.stack([right, torch.ones_like(right)], 1)

    def score_of(self, mean: float) -> float:
        """Return the share of right answers."""
        return mean

    def example_inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the inputs as the one positional argument."""
        return (batch[0],)


@dataclass(frozen=True)
class LanguageModelling:
    """Next-token prediction: cross-entropy, perplexity and bits per byte.

    Shapes: inputs (B, T) int64, targets (B, T) int64, already shifted, `IGNORED` where none;
    logits (B, T, vocabulary).
    """

    vocabulary: int
    score: str = "perplexity"
    higher_is_better: bool = False

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return logits (B, T, vocabulary)."""
        return logits(model(input_ids=batch[0]))

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean cross-entropy per token in nats."""
        flat = logits(outputs).float().flatten(0, 1)  # (B*T, vocabulary)
        return F.cross_entropy(flat, batch[1].flatten(), ignore_index=IGNORED)

    def metrics(self, split: Split) -> Metrics:
        """Return running perplexity, loss and, where the split knows it, bits per byte."""
        return _LanguageMetrics(split.bytes_per_token)

    def outcomes(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the nats of a window, of its tokens."""
        each = F.cross_entropy(
            outputs.float().movedim(-1, 1), batch[1], ignore_index=IGNORED, reduction="none"
        )
        counts = (batch[1] != IGNORED).sum(1)
        return torch.stack([each.double().sum(1).cpu(), counts.double().cpu()], 1)

    def score_of(self, mean: float) -> float:
        """Return the perplexity."""
        return math.exp(min(mean, 700.0))

    def example_inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Return the token ids under the keyword of transformers models."""
        return {"input_ids": batch[0]}


class _ClassificationMetrics:
    def __init__(self, classes: int) -> None:
        from torchmetrics import MeanMetric
        from torchmetrics.classification import MulticlassAccuracy

        self.accuracy = MulticlassAccuracy(classes, average="micro", validate_args=False)
        self.loss = MeanMetric()

    def update(self, outputs: Tensor, batch: Batch) -> None:
        outputs, targets = outputs.detach().float().cpu(), batch[1].cpu()
        self.accuracy.update(outputs, targets)
        self.loss.update(F.cross_entropy(outputs, targets), len(targets))

    def compute(self) -> dict[str, float]:
        return {"accuracy": float(self.accuracy.compute()), "loss": float(self.loss.compute())}


class _LanguageMetrics:
    def __init__(self, bytes_per_token: float | None) -> None:
        from torchmetrics.text import Perplexity

        self.perplexity = Perplexity(ignore_index=IGNORED)
        self.bytes_per_token = bytes_per_token

    def update(self, outputs: Tensor, batch: Batch) -> None:
        self.perplexity.update(outputs.detach().float().cpu(), batch[1].cpu())

    def compute(self) -> dict[str, float]:
        perplexity = float(self.perplexity.compute())
        figures = {"perplexity": perplexity, "loss": math.log(perplexity)}
        if self.bytes_per_token is not None:
            figures["bits_per_byte"] = math.log2(perplexity) / self.bytes_per_token
        return figures
