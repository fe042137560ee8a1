"""The modes of torch that hold for a whole thread, as everything here needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def own_modes() -> Iterator[None]:
    """Gradients can be taken and no dtype is changed inside, whatever the caller switched.

    Ends `torch.no_grad`, `torch.inference_mode` and `torch.autocast` around the call; they hold
    again afterwards. It serves as a decorator, too.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                # Casts that are kept for an outer context would outlast steps on the weights.
                stack.enter_context(torch.autocast(kind, enabled=False, cache_enabled=False))
        yield
