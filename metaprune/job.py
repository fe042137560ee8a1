"""A model that is to be pruned, traced once, with everything that is known of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from graphs import Network, trace
from graphs.calls.copying import copy_module, working_copy
from graphs.calls.refusals import admit, unwrapped
from metaprune.calibration import Calibration, given
from metaprune.ignoring import NOTHING, Ignored
from metaprune.results.dense import Dense
from metaprune.results.history import History, history_of, inherit
from metaprune.results.pruned import Pruned
from pruners.moves import Moves
from training.data.core import Data


@dataclass(frozen=True)
class Job:
    """What plans are made for and carried out on.

    Args:
        given: the module that is pruned; never run, and changed only in place.
        model: a copy of it to run, over the same parameters.
        net: what was traced from it.
        example_inputs: tuple of arguments or dict of keywords for its forward.
        calibration: batches, or None.
        data: a data set with its task, for methods that train; or None.
        history: what was done to the model before; None where it is dense.
        ignore: what stays dense.
        notes: what was understood of what was handed in.
        first: what the first of several prunings in a row started from; None in that one.
        unmoved: what is remembered of the network before moves changed it; None where none did.
    """

    given: nn.Module
    model: nn.Module
    net: Network
    example_inputs: Any
    calibration: Calibration | None = None
    data: Data | None = None
    history: History | None = None
    ignore: Ignored = NOTHING
    notes: tuple[str, ...] = ()
    first: nn.Module | None = None
    unmoved: Dense | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module | Pruned,
        example_inputs: Any,
        calibration: Calibration | Iterable[Any] | None = None,
        data: Data | None = None,
        *,
        ignore: Ignored = NOTHING,
        seed: int = 0,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> Job:
        """Read what was handed in, and trace the model, or a copy of it that is moved first.

        See `metaprune.calibration.given`.

        Raises:
            TraceError: the model cannot be exported.
            ValueError: inputs, batches or data that the model does not take.
        """
        model = unwrapped(model.model if isinstance(model, Pruned) else model)
        model = _placed(model, device, dtype)
        admit(model)
        aside = working_copy(model)
        found = given(aside, example_inputs, calibration, data, seed, dtype)
        return cls(
            given=model,
            model=aside,
            net=ignore.left(trace(model, found.example_inputs), model),
            example_inputs=found.example_inputs,
            calibration=found.calibration,
            data=data,
            history=history_of(model),
            ignore=ignore,
            notes=found.notes,
        )

    @cached_property
    def dense(self) -> Dense:
        """What is remembered of the network that all prunings of the model began with."""
        if self.unmoved is not None:
            return self.unmoved
        return Dense.of(self.net) if self.history is None else self.history.dense

    def moved(self, moves: Moves) -> Job:
        """The same with the network after moves; it is still compared with the one before them.

        Weights that were untied count as its own from then on.

        Raises:
            MovesError: the network does not allow them, or their matrices are not here.
        """
        if not moves:
            return self
        net = self.ignore.left(moves.apply(self.net), self.model)
        own = {name: net.tensors[name].value.numel() for name in moves.unties}
        dense = replace(self.dense, weights={**self.dense.weights, **own})
        return replace(self, net=net, model=net.to_model(), first=self.teacher, unmoved=dense)

    @property
    def teacher(self) -> nn.Module:
        """The densest model that there is, for methods that learn from one."""
        return self.model if self.first is None else self.first

    @property
    def batches(self) -> list[Any]:
        """Calibration batches as arguments of the model; none without a calibration."""
        return self.calibration.model_inputs if self.calibration is not None else []

    @property
    def measured(self) -> bool:
        """Whether there are batches to measure on."""
        return self.calibration is not None


def _placed(
    model: nn.Module, device: str | torch.device | None, dtype: torch.dtype | None
) -> nn.Module:
    """A copy of a model on a device and in a dtype; the model itself where nothing is asked.

    Raises:
        ValueError: what is no device or no floating-point dtype, or a device that is not here.
    """
    if device is None and dtype is None:
        return model
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype takes a floating-point dtype, such as torch.float32 (got {dtype})")
    copied = copy_module(model, {})
    inherit(model, copied)
    try:
        return copied.to(device=device, dtype=dtype)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"the model cannot be moved to device {device!r}: {reason}") from error
