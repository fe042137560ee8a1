"""Fitting a model to data: one loop that reads top to bottom, and resumes bit for bit.

Step t of a run is a function of the parameters, the optimiser's state, t and the seed: the order
of the data, augmentation, dropout and the learning rate have no other state. A checkpoint is
therefore the model, the optimiser and a counter, and a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from training.config import from_mapping, one_of
from training.data.core import Data
from training.evaluate import device_of, evaluate_split, mode
from training.optim import (
    OPTIMIZERS,
    SCHEDULES,
    generator,
    learning_rate,
    optimizer,
    stream,
)
from training.store import (
    load_optimizer,
    load_state,
    optimizer_tensors,
    read_tensors,
    state_of,
    write_tensors,
)
from training.tasks import Batch, to_device

CHECKPOINT = "checkpoint.safetensors"
ORDER, STEP = 0, 1  # random streams of a run: the order of an epoch, everything inside a step

LossFunction: TypeAlias = Callable[[nn.Module, Batch], Tensor]


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
        for name in ("epochs", "batch_size", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1 (got {getattr(self, name)})")


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


def fit(
    model: nn.Module,
    data: Data,
    config: FitConfig | Mapping[str, Any],
    *,
    folder: str | Path | None = None,
    loss: LossFunction | None = None,
    after_step: Callable[[nn.Module], None] | None = None,
    tag: str = "",
) -> FitResult:
    """Fit a model in place; it ends with the weights that were best on validation.

    Args:
        model: changed in place; returned to the device it was on.
        data: with the task; the test split is not touched.
        config: a `FitConfig`, or a mapping of its fields.
        folder: for checkpoints; a run whose folder holds one continues from it.
        loss: (model, batch) -> scalar; the task's loss when None.
        after_step: called with the model after every update, to restore constraints.
        tag: whatever else the run depends on (loss, constraints), so that a checkpoint of
            another run is refused.

    Raises:
        ValueError: for an unknown or impossible setting, or a checkpoint of another run.
        FloatingPointError: if the loss is not finite.
    """
    config = config if isinstance(config, FitConfig) else from_mapping(FitConfig, config)
    run = _Run(model, data, config, Path(folder) if folder else None, tag)
    run.resume()
    loss = loss or (lambda net, batch: data.task.loss(data.task.forward(net, batch), batch))
    with run.bar as bar, torch.random.fork_rng(), mode(model, training=True):
        row = bar.add_task("fit", total=run.steps, completed=run.result.steps)
        if config.evaluate_first and run.result.steps == 0:
            run.evaluate(0)
        for epoch in range(run.result.steps // run.per_epoch, config.epochs):
            order = data.train.epoch(config.batch_size, generator(config.seed, ORDER, epoch))
            for index in order[run.result.steps % run.per_epoch :]:
                step = run.result.steps
                torch.manual_seed(stream(config.seed, STEP, step))
                batch = run.shard(data.train.batch(index, generator(config.seed, STEP, step)))
                value = run.step(loss, batch)
                if after_step is not None:
                    after_step(model)
                bar.update(row, advance=1, description=f"epoch {epoch + 1} loss {value:.3f}")
                if not run.ends_epoch:
                    run.save_when_due()
            if (epoch + 1) % config.evaluate_every == 0 or epoch + 1 == config.epochs:
                run.evaluate(epoch + 1)
            run.save_when_due()
    run.finish()
    return run.result


class _Run:
    """The state of a run: model, optimiser, counters, the best weights so far."""

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        config: FitConfig,
        folder: Path | None,
        tag: str,
    ) -> None:
        self.model, self.data, self.config, self.folder = model, data, config, folder
        self.tag, self.home = tag, device_of(model)
        self.accelerator = Accelerator(cpu=config.device == "cpu")
        self.autocast = partial(
            # accelerate's own setting is one for the whole process, and this is one for a run
            torch.autocast,
            self.accelerator.device.type,
            torch.bfloat16,
            enabled=config.mixed_precision == "bf16",
        )
        plain = optimizer(
            config.optimizer, model.parameters(), config.lr, config.momentum, config.weight_decay
        )
        self.prepared, self.optimizer = self.accelerator.prepare(model, plain)
        self.per_epoch = max(1, len(data.train) // config.batch_size)
        self.steps = config.epochs * self.per_epoch
        self.result = FitResult()
        self.best: dict[str, Tensor] = {}
        self.losses: list[float] = []

    @property
    def bar(self) -> Progress:
        hidden = not self.config.progress or not self.accelerator.is_main_process
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        return Progress(*columns, TimeRemainingColumn(), disable=hidden)

    def shard(self, batch: Batch) -> Batch:
        """Return this process's examples of a batch, on its device."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        part = (batch[0][rank::world], batch[1][rank::world])
        return to_device(part, self.accelerator.device)

    def step(self, loss: LossFunction, batch: Batch) -> float:
        """Take one step; return its loss."""
        config, step = self.config, self.result.steps
        rate = learning_rate(config.schedule, step, self.steps, config.lr, config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self.autocast():
            value = loss(self.prepared, batch)
        number = float(value.detach())
        if not math.isfinite(number):
            raise FloatingPointError(
                f"the loss is {number} at step {step} (learning rate {rate:.3g}); "
                f"lower lr, or set clip"
            )
        self.accelerator.backward(value)
        if config.clip is not None:
            self.accelerator.clip_grad_norm_(self.prepared.parameters(), config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.result.steps += 1
        self.losses.append(number)
        return number

    def evaluate(self, epoch: int) -> None:
        """Measure on validation and remember the weights if they are the best so far."""
        task, result = self.data.task, self.result
        split = self.data.validation.take(self.config.evaluate_limit)
        figures = evaluate_split(self.model, split, task)
        mean = sum(self.losses) / max(1, len(self.losses))
        result.history.append({"epoch": epoch, "train_loss": mean, **figures})
        result.last, self.losses = figures, []
        sign = 1 if task.higher_is_better else -1
        if not result.best or sign * (figures[task.score] - result.best[task.score]) > 0:
            result.best, result.best_epoch = figures, epoch
            self.best = {name: value.clone() for name, value in state_of(self.model).items()}

    @property
    def ends_epoch(self) -> bool:
        """Return whether the last step was the last of its epoch."""
        return self.result.steps % self.per_epoch == 0

    def save_when_due(self) -> None:
        """Write the checkpoint every so many steps; after a validation that may belong to it."""
        every = self.config.checkpoint_every or self.per_epoch
        if self.folder is None or not self.accelerator.is_main_process:
            return
        if self.result.steps % every == 0:
            self.save(self.folder)

    def save(self, folder: Path) -> None:
        """Write the checkpoint."""
        parts = {
            "model": state_of(self.model),
            "optimizer": optimizer_tensors(self.optimizer),
            "best": self.best,
        }
        tensors = {f"{part}/{k}": v for part, state in parts.items() for k, v in state.items()}
        metadata = {"run": self.identity(), "result": asdict(self.result), "losses": self.losses}
        write_tensors(folder / CHECKPOINT, tensors, metadata)

    def resume(self) -> None:
        """Continue from the checkpoint in the folder, if there is one."""
        if self.folder is None or not (self.folder / CHECKPOINT).is_file():
            return
        path = self.folder / CHECKPOINT
        tensors, metadata = read_tensors(path)
        if not metadata or metadata.get("run") != self.identity():
            raise ValueError(
                f"checkpoint {str(path)!r} is of a run with other settings or data; "
                f"remove it or choose another folder"
            )
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "best": {}}
        for key, tensor in tensors.items():
            part, name = key.split("/", 1)
            parts[part][name] = tensor
        load_state(self.model, parts["model"], str(path))
        load_optimizer(self.optimizer, parts["optimizer"])
        self.best = parts["best"]
        self.result, self.losses = FitResult(**metadata["result"]), metadata["losses"]

    def identity(self) -> dict[str, Any]:
        """Return what must agree for a checkpoint to belong to this run."""
        neutral = {"progress": False, "device": "auto", "checkpoint_every": None}
        return {**asdict(self.config), **neutral, "data": self.data.fingerprint, "tag": self.tag}

    def finish(self) -> None:
        """Give the model its best weights, free of accelerate's wrapping, on its own device."""
        self.accelerator.unwrap_model(self.prepared, keep_fp32_wrapper=False)
        load_state(self.model, self.best, "best weights of this run")
        self.model.to(self.home)
