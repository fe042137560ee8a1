"""Zeros held in the training loop of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers
from torch import Tensor, nn

from metaprune.keeping.optimizer import found_masks
from training.recovery.masked import constraint_of


class KeepMasks(transformers.TrainerCallback):
    """A callback of `transformers.Trainer` that sets masked weights to 0 after every update.

        Trainer(model=model, args=..., callbacks=[metaprune.KeepMasks()], ...)

    Args:
        masks: parameter name → bool, of its shape, True where a weight stays; None for the zeros
            that the matrices and kernels of the model have when training begins.
    """

    def __init__(self, masks: Mapping[str, Tensor] | None = None) -> None:
        self.masks = masks
        self._restore: Any = None

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: nn.Module | None = None, **_: Any
    ) -> None:
        """Take the masks.

        Raises:
            ValueError: no weight is zero, or a mask fits no parameter.
        """
        assert model is not None
        masks = found_masks(model) if self.masks is None else self.masks
        self._restore = constraint_of(model, masks)
        self._restore(model)

    def on_optimizer_step(
        self, args: Any, state: Any, control: Any, model: nn.Module | None = None, **_: Any
    ) -> None:
        """Put the zeros back."""
        self._restore(model)
