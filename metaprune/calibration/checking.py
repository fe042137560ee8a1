"""What is refused at the door: no examples, and numbers that are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import keystr, tree_flatten_with_path

from metaprune.calibration.batches import any_examples


def filled(batches: Sequence[Any]) -> None:
    """Refuse batches without examples.

    Raises:
        ValueError: there are none, or all are empty.
    """
    if not batches:
        raise ValueError("calibration needs at least one batch (got none); pass None to do without")
    if not any(map(any_examples, batches)):
        raise ValueError(
            "calibration needs at least one example (all of its batches are empty); pass None "
            "to do without"
        )


def finite(model: nn.Module, batches: Sequence[Any]) -> None:
    """Refuse weights and inputs that hold NaN or infinity.

    -∞ is a number in inputs: additive masks of attention are made of it.

    Args:
        model: whose parameters are looked at.
        batches: arguments of the model.

    Raises:
        ValueError: names the parameter, or the batch and the tensor in it.
    """
    for name, parameter in model.named_parameters():
        value = parameter.detach()
        if value.is_meta or not value.is_floating_point():
            continue
        if not bool(value.isfinite().all()):
            raise ValueError(
                f'the weights of the model are not finite: "{name}" holds NaN or infinity; load '
                "a checkpoint whose training did not diverge"
            )
    for number, batch in enumerate(batches, start=1):
        for path, leaf in tree_flatten_with_path(batch)[0]:
            if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point() or leaf.is_meta:
                continue
            if bool((leaf.isnan() | leaf.isposinf()).any()):
                raise ValueError(
                    f"batch {number} of the calibration is not finite: its input {keystr(path)} "
                    "holds NaN or infinity; leave such examples out"
                )
