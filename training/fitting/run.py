"""The state of a run: what one step does, what is judged, saved and restored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from graphs.tools.documents import told
from training.data.core import Data
from training.data.split import Batch, to_device
from training.fitting.evaluate import device_of, evaluate_split
from training.fitting.optim import learning_rate, optimizer
from training.fitting.settings import FitConfig, FitResult
from training.fitting.tracking import log
from training.store import (
    AGAIN,
    CHECKPOINT,
    load_optimizer,
    load_state,
    optimizer_tensors,
    read_run,
    state_of,
    write_run,
)

LossFunction: TypeAlias = Callable[[nn.Module, Batch], Tensor]


LOGGED_EVERY = 10
"""Steps between the losses that trackers are told."""


class Run:
    """The state of a run: model, optimiser, counters, the best weights so far.

    Args:
        model: changed in place.
        data: with the task.
        config: settings.
        folder: for checkpoints, or None.
        tag: what else the run depends on.
    """

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
        """Return the progress bar, hidden unless it was asked for."""
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
        if self.result.steps % LOGGED_EVERY == 0:
            log({"loss": number, "lr": rate}, self.result.steps)
        return number

    def evaluate(self, epoch: int) -> None:
        """Measure on validation and remember the weights if they are the best so far."""
        task, result = self.data.task, self.result
        split = self.data.validation.take(self.config.evaluate_limit)
        figures = evaluate_split(self.model, split, task)
        mean = sum(self.losses) / max(1, len(self.losses))
        result.history.append({"epoch": epoch, "train_loss": mean, **figures})
        result.last, self.losses = figures, []
        log({f"validation/{name}": value for name, value in figures.items()}, result.steps)
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
        result = asdict(self.result)
        write_run(folder / CHECKPOINT, parts, self.identity(), result=result, losses=self.losses)

    def resume(self) -> None:
        """Continue from the checkpoint in the folder, if there is one."""
        if self.folder is None or not (self.folder / CHECKPOINT).is_file():
            return
        path = self.folder / CHECKPOINT
        parts, record = read_run(path, self.identity())
        with told(path, AGAIN):
            result, losses = FitResult(**record["result"]), list(record["losses"])
            load_state(self.model, parts["model"], str(path))
            load_optimizer(self.optimizer, parts.get("optimizer", {}))
        self.best = parts.get("best", {})
        self.result, self.losses = result, losses

    def identity(self) -> dict[str, Any]:
        """Return what must agree for a checkpoint to belong to this run."""
        neutral = {"progress": False, "device": "auto", "checkpoint_every": None}
        return {**asdict(self.config), **neutral, "data": self.data.fingerprint, "tag": self.tag}

    def finish(self) -> None:
        """Give the model its best weights, free of accelerate's wrapping, on its own device."""
        self.accelerator.unwrap_model(self.prepared, keep_fp32_wrapper=False)
        load_state(self.model, self.best, "best weights of this run")
        self.model.to(self.home)
