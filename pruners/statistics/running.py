"""Running a model for its statistics without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def forward(model: nn.Module, batch: Any) -> Any:
    """Run a model on example inputs: a mapping of keywords, a tuple of arguments, or one tensor."""
    if isinstance(batch, dict):
        return model(**batch)
    if isinstance(batch, (tuple, list)):
        return model(*batch)
    return model(batch)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; on leaving, training flags, requires_grad and buffers are as before.

    `.grad` fields are not touched by this context: use `torch.autograd.grad` inside it.
    """
    flags = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
