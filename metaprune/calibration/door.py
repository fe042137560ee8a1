"""From what a user hands in to example inputs and a calibration, and a sentence that says how."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from graphs.calls.diagnosis import described
from metaprune.calibration.batches import Calibration, any_examples
from metaprune.calibration.checking import filled, finite
from metaprune.calibration.collecting import collected, is_data, rows
from metaprune.calibration.losses import loss_of
from metaprune.calibration.reading import Forward
from pruners.statistics import without_padding
from training.data.core import Data

SHOWN = 2
"""Examples that a model is traced with, of what are taken as its data."""


@dataclass(frozen=True)
class Given:
    """What was handed in, as a pruning reads it.

    Args:
        example_inputs: tuple of arguments or dict of keywords of the forward.
        calibration: batches; None where there are none.
        notes: what was understood, where that was not said.
    """

    example_inputs: Any
    calibration: Calibration | None
    notes: tuple[str, ...] = ()


def given(
    model: nn.Module,
    inputs: Any,
    calibration: Calibration | Iterable[Any] | None = None,
    data: Data | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
) -> Given:
    """What was handed in, read, and moved to where the model is.

    Args:
        model: that the inputs are for.
        inputs: arguments of its forward, a tuple or a dict of keywords; or data to take them from,
            which then calibrate too: a DataLoader, a data set, a tensor of examples, a tuple of
            inputs and labels, a list of batches, a `Calibration`, or `training.data.Data`.
        calibration: batches in the place of those; see `collecting.collected`.
        data: a data set with its task; its training split calibrates where nothing else does.
        seed: of the choice of examples.
        dtype: that floating-point inputs are cast to; None leaves them as they are.

    Raises:
        ValueError: what is none of these, is empty or not finite, or the model does not run on.
    """
    if data is not None and not isinstance(data, Data):
        raise ValueError(
            f"data takes a data set, training.data.load(...) (got a {type(data).__name__})"
        )
    forward, found = Forward.of(model), Given(inputs, None)
    move = partial(_moved, device=device_of(model), dtype=dtype)
    if not _arguments(inputs, forward):
        found = _read(model, forward, inputs, seed, move)
    if calibration is not None:
        read = _read(model, forward, calibration, seed, move)
        found = Given(found.example_inputs, read.calibration, read.notes)
    elif found.calibration is None and data is not None:
        read = _read(model, forward, data, seed, move)
        found = Given(found.example_inputs, read.calibration)
    found = replace(found, example_inputs=move(found.example_inputs))
    finite(model, [] if found.calibration is None else found.calibration.model_inputs)
    return found


def device_of(model: nn.Module) -> torch.device | None:
    """Where all of a model is; None where it has no tensors, or on several devices."""
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    return devices.pop() if len(devices) == 1 else None


def _arguments(inputs: Any, forward: Forward) -> bool:
    """Whether inputs are arguments of the forward, and not data to take them from."""
    if isinstance(inputs, torch.Tensor):
        return inputs.is_meta
    named = hasattr(inputs, "items") and not _splits(inputs)
    return (named or isinstance(inputs, tuple)) and (len(inputs) < 2 or forward.binds(inputs))


def _splits(source: Any) -> bool:
    """Whether it is several data sets by name."""
    return hasattr(source, "items") and any(map(is_data, dict(source).values()))


def _read(
    model: nn.Module, forward: Forward, source: Any, seed: int, move: Callable[[Any], Any]
) -> Given:
    """A calibration of whatever has batches, and example inputs of its first one."""
    if isinstance(source, Calibration | Data):
        whole = Calibration.from_data(source, seed=seed) if isinstance(source, Data) else source
        filled(whole.batches)
        moved = replace(whole, batches=[move(b) for b in without_padding(whole.batches)])
        few = _few(moved.model_inputs[0])
        return Given(few, moved.fitting(model, few))
    one = hasattr(source, "items") and not _splits(source)
    batches = collected([dict(source)] if one else source, seed)
    filled(batches.batches)
    read = []
    for number, batch in enumerate(batches.batches, start=1):
        try:
            read += [forward.read(move(part)) for part in without_padding([batch])]
        except ValueError as error:
            raise ValueError(f"batch {number} of the calibration: {error}") from error
    if not read:
        raise ValueError("every token of the calibration is padding: give examples with some")
    labelled = all(batch.labels is not None for batch in read)
    first = next(batch for batch in read if any_examples(batch.inputs))
    few = _few(first.inputs)
    found = Calibration(read, attrgetter("inputs")).fitting(model, few)
    loss, name = loss_of(model, first) if labelled else (None, "no labels")
    notes: tuple[str, ...] = ()
    if labelled or not isinstance(source, list):
        labels = f"labels {described(first.labels)} ({name})" if labelled else name
        notes = (f"Read from {batches.words}: inputs {described(first.inputs)}, {labels}.",)
        logging.getLogger("metaprune").info(notes[0])
    return Given(few, replace(found, loss=loss), notes)


def _few(inputs: Any) -> Any:
    """The first examples of a batch."""
    count = rows(inputs)
    return tree_map_only(
        torch.Tensor, lambda t: t[:SHOWN] if t.ndim and len(t) == count else t, inputs
    )


def _moved(value: Any, device: torch.device | None, dtype: torch.dtype | None) -> Any:
    """Tensors on a device, floating-point ones in a dtype; all else as it is."""

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        kind = dtype if tensor.is_floating_point() else None
        there = None if device is None or device.type == "meta" else device
        return tensor.to(device=there, dtype=kind)

    return tree_map_only(torch.Tensor, moved, value)
