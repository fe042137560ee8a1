"""Less memory for a backward pass: what repeated blocks compute is computed again instead of kept.

Of every block only its inputs are kept (Chen et al. 2016, "Training Deep Nets with Sublinear Memory
Cost"); the price is one more forward pass.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(model: nn.Module, again: Callable[[], AbstractContextManager]) -> Iterator[None]:
    """Inside this context, repeated blocks keep nothing of what they compute.

    Args:
        model: its blocks get their own forward back afterwards.
        again: contexts in which blocks are computed once more, in the backward pass.
    """
    blocks = repeated_blocks(model)
    if not blocks:
        warnings.warn(
            f"recompute saves no memory: {type(model).__name__} has no list of repeated blocks",
            stacklevel=3,
        )
    before = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        block.forward = _checkpointed(block.forward, again)
    try:
        yield
    finally:
        for block, own in zip(blocks, before, strict=True):
            if own is None:
                del block.forward
            else:
                block.forward = own


def _checkpointed(
    forward: Callable[..., Any], again: Callable[[], AbstractContextManager]
) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(
            forward,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), again()),
            **kwargs,
        )

    return run


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Modules of one class in one list or sequence, the innermost but for the parts of a block.

    A module that itself holds such a list is a stage of blocks, not a block.
    """
    found, todo = [], [model]
    while todo:
        module = todo.pop(0)
        repeated = _repeated(module)
        for child in module.children():
            if child in repeated and not any(_repeated(part) for part in child.children()):
                found.append(child)
            else:
                todo.append(child)
    return found


def _repeated(module: nn.Module) -> list[nn.Module]:
    """Children of a list that have children, and the class of another one; no lists."""
    if not isinstance(module, nn.ModuleList | nn.Sequential):
        return []
    kinds = Counter(type(child) for child in module.children())
    return [
        child
        for child in module.children()
        if kinds[type(child)] > 1
        and any(True for _ in child.children())
        and not isinstance(child, nn.ModuleList | nn.Sequential)
    ]
