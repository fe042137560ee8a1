"""Data that a function of the user's own returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from training.config import called
from training.data.core import Data
from training.data.registry import dataset
from training.data.split import Split, fingerprint, hold_out
from training.data.tasks import Classification
from training.named import function_named

SPLITS = ("train", "validation", "test")
HELD_OUT = 0.1
"""Share of the training examples that are validation where the function returns none."""


@dataset("function")
def from_function(
    *, function: str, options: Mapping[str, Any] | None = None, seed: int = 0
) -> Data:
    """Call a function that returns labelled examples.

    Args:
        function: `path/to/file.py:function`, or `package.module:function`. It returns a mapping of
            "train", "test" and, if there is one, "validation"; each is a pair of tensors, inputs
            (N, ...) and labels (N,), or a data set of such pairs. Or it returns a
            `training.data.Data`, for tasks that are no classification.
        options: keyword arguments of the function.
        seed: of the choice of the validation examples, a tenth of train where there are none.

    Raises:
        ValueError: no such function, or it returns something else.
    """
    found = called(function_named(function), dict(options or {}), f"function {function!r}")
    if isinstance(found, Data):
        return found
    if not isinstance(found, Mapping) or not {"train", "test"} <= set(found) <= set(SPLITS):
        got = sorted(found) if isinstance(found, Mapping) else type(found).__name__
        raise ValueError(
            f"{function!r} must return a mapping with train, test and perhaps validation "
            f"(got {got})"
        )
    splits = {name: _split(part, f"{function} {name}") for name, part in found.items()}
    train, test = splits["train"], splits["test"]
    if "validation" in splits:
        validation = splits["validation"]
    else:
        train, validation = hold_out(train, max(1, int(HELD_OUT * len(train))), seed)
    every = (train, validation, test)
    classes = 1 + max(int(split.targets.max()) for split in every)
    task, shape = Classification(classes), tuple(train.inputs.shape[1:])
    return Data("function", *every, task, shape, classes, fingerprint(every))


def _split(part: Any, name: str) -> Split:
    """A split from tensors, or from a data set of pairs, which is read into memory.

    Raises:
        ValueError: it is neither, or labels and inputs do not fit.
    """
    try:
        if not (isinstance(part, tuple | list) and isinstance(part[0], Tensor)):
            pairs = [part[i] for i in range(len(part))]
            part = torch.stack([x for x, _ in pairs]), torch.tensor([int(y) for _, y in pairs])
        inputs, targets = part
        fits = len(inputs) == len(targets) > 0 and targets.ndim == 1
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise ValueError(
            f"{name} must be a pair of tensors, inputs and labels, or a data set of such pairs "
            f"({error})"
        ) from error
    if not fits or targets.is_floating_point():
        raise ValueError(
            f"{name} must have one whole label for each input (got inputs "
            f"{tuple(inputs.shape)}, labels {tuple(targets.shape)} {targets.dtype})"
        )
    return Split(inputs, targets.long())
