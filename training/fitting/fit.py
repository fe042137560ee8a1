"""Fitting a model to data: one loop that reads top to bottom, and resumes bit for bit.

Step t of a run is a function of the parameters, the optimiser's state, t and the seed: the order
of the data, augmentation, dropout and the learning rate have no other state. A checkpoint is
therefore the model, the optimiser and a counter, and a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from graphs.calls.modes import own_modes
from graphs.calls.running import in_mode, seeded
from training.config import from_mapping
from training.data.core import Data
from training.fitting.optim import generator, stream
from training.fitting.run import LossFunction, Run
from training.fitting.settings import FitConfig, FitResult

ORDER, STEP = 0, 1  # random streams of a run: the order of an epoch, everything inside a step


@own_modes()
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
    run = Run(model, data, config, Path(folder) if folder else None, tag)
    run.resume()
    loss = loss or (lambda net, batch: data.task.loss(data.task.forward(net, batch), batch))
    with run.bar as bar, in_mode(model, training=True):
        row = bar.add_task("fit", total=run.steps, completed=run.result.steps)
        if config.evaluate_first and run.result.steps == 0:
            run.evaluate(0)
        for epoch in range(run.result.steps // run.per_epoch, config.epochs):
            order = data.train.epoch(config.batch_size, generator(config.seed, ORDER, epoch))
            for index in order[run.result.steps % run.per_epoch :]:
                step = run.result.steps
                with seeded(stream(config.seed, STEP, step)):
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
