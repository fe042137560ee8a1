"""Masks: which weights of a network are zero, and a constraint that keeps them so in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """Masks of the matrices and kernels that hold zeros, by name: True where a weight is not zero.

    Vectors (biases, norm scales) are never masked.
    """
    return {
        name: parameter.detach() != 0
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and bool((parameter == 0).any())
    }


def constraint_of(model: nn.Module, masks: Mapping[str, Tensor]) -> Callable[[nn.Module], None]:
    """The constraint that puts the zeros of pruned weights back after an update.

    Args:
        model: whose parameters are masked.
        masks: parameter name -> bool tensor of its shape, False where the weight is to be zero; of
            tied parameters either name will do.

    Returns:
        A function that sets the masked weights of a model to zero, in place.

    Raises:
        ValueError: a mask that fits no parameter.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        if name not in parameters:
            raise ValueError(f"there is no parameter {name!r} to mask in {type(model).__name__}")
        if mask.dtype != torch.bool or mask.shape != parameters[name].shape:
            raise ValueError(
                f"the mask of {name!r} must be bool of shape {tuple(parameters[name].shape)} "
                f"(got {mask.dtype} {tuple(mask.shape)})"
            )
    pruned = {name: ~mask for name, mask in masks.items()}

    @torch.no_grad()
    def apply(network: nn.Module) -> None:
        for name, zeros in pruned.items():
            parameter = network.get_parameter(name)
            pruned[name] = zeros = zeros.to(parameter.device)
            parameter.masked_fill_(zeros, 0)

    return apply
