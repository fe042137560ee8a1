"""A model that is to be pruned, traced once, with everything that is known of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import nn

from graphs import Network, trace
from graphs.calls.copying import working_copy
from graphs.calls.refusals import unwrapped
from metaprune.calibration import Calibration
from metaprune.results.dense import Dense
from metaprune.results.history import History, history_of
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
    first: nn.Module | None = None
    unmoved: Dense | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module | Pruned,
        example_inputs: Any,
        calibration: Calibration | Iterable[Any] | None = None,
        data: Data | None = None,
    ) -> Job:
        """Trace a model; batches are taken from the data where there are no others.

        Raises:
            TraceError: the model cannot be exported.
            ValueError: a calibration without batches, or with some that the model does not take.
        """
        given = unwrapped(model.model if isinstance(model, Pruned) else model)
        batches = Calibration.choose(calibration, data)
        net = trace(given, example_inputs)
        aside = working_copy(given)
        return cls(
            given=given,
            model=aside,
            net=net,
            example_inputs=example_inputs,
            calibration=None if batches is None else batches.fitting(aside, example_inputs),
            data=data,
            history=history_of(given),
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
        net = moves.apply(self.net)
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
