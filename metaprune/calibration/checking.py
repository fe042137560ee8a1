"""What is refused at the door: no examples, and numbers that are none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import keystr, tree_flatten_with_path

from metaprune.calibration.batches import any_examples


def filled(batches: Sequence[Any], instead: str = "; pass None to do without") -> list[Any]:
    """The batches that hold examples.

    Args:
        batches: any.
        instead: what else may be done, for the error.

    Raises:
        ValueError: there are none, or all are empty.
    """
    if not batches:
        raise ValueError(f"calibration needs at least one batch (got none){instead}")
    found = [batch for batch in batches if any_examples(batch)]
    if not found:
        raise ValueError(
            f"calibration needs at least one example (all of its batches are empty){instead}"
        )
    return found


def finite(model: nn.Module, batches: Sequence[Any]) -> None:
    """Refuse weights and inputs that hold NaN or infinity.

    -∞ is a number in inputs and buffers: additive masks of attention are made of it.

    Args:
        model: whose parameters and buffers are looked at.
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
    for path, module in model.named_modules():
        # Observers begin with infinities, and masks are made of -∞.
        infinite = type(module).__module__.startswith("torch.ao.")
        for name, buffer in module.named_buffers(path, recurse=False):
            if buffer.is_meta or not buffer.is_floating_point():
                continue
            if bool((buffer.isnan() | (buffer.isposinf() & (not infinite))).any()):
                raise ValueError(
                    f'the buffers of the model are not finite: "{name}" holds NaN or infinity; '
                    "load a checkpoint whose training did not diverge"
                )
    words = vocabulary(model)
    for number, batch in enumerate(batches, start=1):
        ids = batch.get("input_ids") if hasattr(batch, "get") else next(iter(batch), None)
        known(words, ids, f"batch {number} of the calibration")
        for path, leaf in tree_flatten_with_path(batch)[0]:
            if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point() or leaf.is_meta:
                continue
            if bool((leaf.isnan() | leaf.isposinf()).any()):
                raise ValueError(
                    f"batch {number} of the calibration is not finite: its input {keystr(path)} "
                    "holds NaN or infinity; leave such examples out"
                )


def vocabulary(model: nn.Module) -> int | None:
    """How many tokens a language model of transformers knows; None for other models."""
    table = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    return table.num_embeddings if isinstance(table, nn.Embedding) else None


def known(words: int | None, ids: Any, what: str) -> None:
    """Refuse token ids that an embedding has no row for.

    Args:
        words: rows; None where there is no such embedding.
        ids: what a model reads first; anything but whole numbers is let through.
        what: has these tokens, for the error.

    Raises:
        ValueError: one is negative or too large.
    """
    if words is None or not isinstance(ids, torch.Tensor) or ids.is_meta:
        return
    if ids.is_floating_point() or not ids.numel():
        return
    least, most = int(ids.min()), int(ids.max())
    if least < 0 or most >= words:
        raise ValueError(
            f"{what} has the token {least if least < 0 else most}, and the model knows 0 to "
            f"{words - 1}: use the tokenizer that belongs to it"
        )
