"""Squared gradients of weights, of a loss or, without targets, of the outputs themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs.calls.running import run

LossFunction: TypeAlias = Callable[[nn.Module, Any], torch.Tensor]

# Random signs a batch, where there is no loss.
DRAWS = 8


def squared_gradients(
    model: nn.Module,
    batch: Any,
    parameters: Mapping[str, nn.Parameter],
    loss_fn: LossFunction | None,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> dict[str, torch.Tensor]:
    r"""(∂L/∂w)² of one batch, in one forward pass.

    Without a loss, L = Σ ±f(x) / √entries with random signs on the outputs, averaged over eight
    draws: its expectation is the diagonal of the Gauss–Newton matrix JᵀJ / entries (Hutchinson
    1990), which needs no targets.

    Args:
        model: to run.
        batch: what `loss_fn`, or the model, takes.
        parameters: name → weight that requires a gradient.
        loss_fn: (model, batch) → scalar; None for random signs.
        generator: of the signs, on the CPU.
        dtype: squares are at least this wide.

    Returns:
        Name → squares in the shape of the weight; weights that the loss does not see are missing.

    Raises:
        ValueError: a loss that is no scalar with a gradient.
    """
    if loss_fn is not None:
        losses = [loss_fn(model, batch)]
    else:
        leaves = pytree.tree_leaves(run(model, batch))
        outputs = [v for v in leaves if isinstance(v, torch.Tensor) and v.requires_grad]
        entries = max(1, sum(value.numel() for value in outputs))
        losses = []
        for _ in range(DRAWS):
            parts = [(value * _signs(value, generator)).sum() for value in outputs]
            losses.append(sum(parts, torch.zeros(())) / entries**0.5)
    result: dict[str, torch.Tensor] = {}
    for i, loss in enumerate(losses):
        if loss.numel() != 1 or not loss.requires_grad:
            raise ValueError(
                "gradients need a scalar loss that depends on the weights (got shape "
                f"{tuple(loss.shape)}, requires_grad={loss.requires_grad})"
            )
        found = torch.autograd.grad(
            loss, list(parameters.values()), allow_unused=True, retain_graph=i + 1 < len(losses)
        )
        for name, gradient in zip(parameters, found, strict=True):
            if gradient is not None:
                wide = gradient.to(torch.promote_types(gradient.dtype, dtype))
                squares = wide.square() / len(losses)
                result[name] = result[name] + squares if name in result else squares
    return result


def _signs(value: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(2, value.shape, generator=generator).to(value) * 2 - 1
