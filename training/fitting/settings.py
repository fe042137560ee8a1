"""Settings and results of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from training.config import check_positive, one_of
from training.fitting.optim import OPTIMIZERS, SCHEDULES


@dataclass(frozen=True)
class FitConfig:
    """Settings of a run.

    Args:
        epochs: passes over the training split.
        batch_size: examples a step, over all processes.
        optimizer: `sgd` (Nesterov) or `adamw`.
        lr: highest learning rate.
        momentum: of SGD; first beta of AdamW.
        weight_decay: of matrices and kernels; vectors are not decayed.
        schedule: `onecycle`, `cosine` or `constant`.
        warmup: share of the steps in which the learning rate rises.
        clip: highest norm of the gradient, None for no limit.
        evaluate_every: epochs between evaluations on validation; the last epoch always has one.
        evaluate_first: also evaluate before the first step, as epoch 0; then the model is never
            worse on validation than it was.
        evaluate_limit: use only the first validation examples.
        checkpoint_every: steps between checkpoints, when a folder is given; None for each epoch.
        mixed_precision: `no` or `bf16`.
        device: `auto` (an accelerator if there is one) or `cpu`.
        seed: of the order of the data, augmentation and dropout.
        progress: show a progress bar.
    """

    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    warmup: float = 0.1
    clip: float | None = None
    evaluate_every: int = 1
    evaluate_first: bool = False
    evaluate_limit: int | None = None
    checkpoint_every: int | None = None
    mixed_precision: str = "no"
    device: str = "auto"
    seed: int = 0
    progress: bool = False

    def __post_init__(self) -> None:
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("mixed_precision", self.mixed_precision, ("no", "bf16"))
        one_of("device", self.device, ("auto", "cpu"))
        check_positive(self, "epochs", "batch_size", "evaluate_every")


@dataclass
class FitResult:
    """What a run did.

    Args:
        steps: taken in all, those before a resume included.
        best: metrics on validation of the epoch whose weights the model now has.
        last: metrics on validation after the last step.
        best_epoch: counted from 1.
        history: one entry an evaluation: epoch, mean training loss since the last, metrics.
    """

    steps: int = 0
    best: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
