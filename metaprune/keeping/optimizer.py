"""Zeros held at every step of an optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from training.recovery.masked import constraint_of, masks_of


def keep_masks(
    model: nn.Module, optimizer: Any, masks: Mapping[str, Tensor] | None = None
) -> RemovableHandle:
    """Set masked weights to 0 after every step of an optimizer, until the handle is removed.

    For a loop of your own, with accelerate or without. What a step of the optimizer adds to masked
    weights (momentum, weight decay of others) is taken away before the next forward pass.

        metaprune.keep_masks(model, optimizer)
        loss.backward(); optimizer.step()

    Args:
        model: whose parameters the optimizer moves; not the wrapper that shards them.
        optimizer: of torch, or what `accelerate` made of one.
        masks: parameter name → bool, of its shape, True where a weight stays; None for the zeros
            that the matrices and kernels of the model have now.

    Raises:
        TypeError: no optimizer of torch.
        ValueError: no weight is zero, a mask fits no parameter, or a masked weight is no parameter
            of the optimizer.
    """
    inner = getattr(optimizer, "optimizer", optimizer)
    if not isinstance(inner, Optimizer):
        raise TypeError(
            f"keep_masks takes an optimizer of torch (got {type(optimizer).__name__}); with "
            "another one call result.keep_masks() after every step"
        )
    wanted = found_masks(model) if masks is None else masks
    restore = constraint_of(model, wanted)
    moved = {id(p) for group in inner.param_groups for p in group["params"]}
    apart = [
        name
        for name in wanted
        if (weight := model.get_parameter(name)).requires_grad and id(weight) not in moved
    ]
    if apart:
        raise ValueError(
            f"the optimizer does not move {apart[0]!r}: give the model that it was made of, not a "
            "copy or a wrapper"
        )
    restore(model)

    def after(*_: Any) -> None:
        restore(model)

    return inner.register_step_post_hook(after)


def found_masks(model: nn.Module) -> dict[str, Tensor]:
    """The zeros of a model as masks.

    Raises:
        ValueError: it has none.
    """
    masks = masks_of(model)
    if not masks:
        raise ValueError(
            f"no weight of the {type(model).__name__} is zero, so there are no masks to keep"
        )
    return masks
