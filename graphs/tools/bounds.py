"""What a file says must be built, compared with what is in it, before memory is taken for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registration

from graphs.tools.documents import reason

TIMES = 64
"""How many times larger than its file a dense network may be, in numbers and in tensors."""
NUMBERS, TENSORS = 1 << 24, 2_000
"""What any dense network may have, however small its file."""
REPEATED = ("layer", "depth", "block", "stage", "num_hidden")
"""Words in the names of settings that say how many of a kind are built."""
MODULES = 8
"""Modules, parameters and buffers that are registered for one tensor, at most."""


class TooLargeError(ValueError):
    """A network that is larger than the file it would be filled from accounts for."""


def check_size(
    build: Callable[[], nn.Module], tensors: Mapping[str, torch.Tensor], times: int = TIMES
) -> nn.Module:
    """Build a network without memory, and refuse one that its file does not account for.

    Args:
        build: makes the network.
        tensors: of the file, those of the pruned network.
        times: how many times larger the network may be.

    Returns:
        The network on the meta device.

    Raises:
        TooLargeError: it has more numbers or tensors than `times` those of the file.
        ValueError: it cannot be built.
    """
    numbers, count = _limits(tensors, times)
    try:
        with _counted(numbers, count), torch.device("meta"):
            return build()
    except TooLargeError:
        raise
    except Exception as error:  # whatever a constructor raises about numbers that make no sense
        raise ValueError(f"the architecture cannot be built: {reason(error)}") from error


def check_counts(content: Any, tensors: Mapping[str, torch.Tensor], times: int = TIMES) -> None:
    """Refuse settings of a network that ask for more layers than its file accounts for.

    Some constructors make lists of all layers before they make the first.

    Args:
        content: plain JSON values.
        tensors: of the file.
        times: how many times larger the network may be.

    Raises:
        TooLargeError: a number of layers, or a list, is too large.
    """
    count = _limits(tensors, times)[1]
    for key, value in content.items() if isinstance(content, Mapping) else enumerate(content):
        layers = isinstance(key, str) and any(word in key.lower() for word in REPEATED)
        size = len(value) if isinstance(value, list) else value
        counts = isinstance(value, list) or (layers and isinstance(value, int))
        if counts and size > count:
            raise TooLargeError(
                f"{key} is {size:,}, and there are {len(tensors)} tensors, which is far less"
            )
        if isinstance(value, list | Mapping):
            check_counts(value, tensors, times)


def _limits(tensors: Mapping[str, torch.Tensor], times: int) -> tuple[int, int]:
    """Most numbers and most tensors."""
    there = sum(tensor.numel() for tensor in tensors.values())
    return max(NUMBERS, times * there), max(TENSORS, times * len(tensors))


@contextmanager
def _counted(numbers: int, count: int) -> Iterator[None]:
    """Refuse more than so many numbers or tensors in the modules that this thread makes inside."""
    own, had = threading.get_ident(), {"numbers": 0, "tensors": 0}

    def add(_module: nn.Module, _name: str, value: object) -> None:
        if threading.get_ident() != own:
            return
        had["tensors"] += 1
        had["numbers"] += value.numel() if isinstance(value, torch.Tensor) else 0
        if had["numbers"] > numbers or had["tensors"] > MODULES * count:
            raise TooLargeError(
                "what it says must be built is far larger than the tensors that are there "
                f"account for ({numbers:,} numbers in {count:,} tensors at most)"
            )

    handles = [
        registration.register_module_parameter_registration_hook(add),
        registration.register_module_buffer_registration_hook(add),
        registration.register_module_module_registration_hook(add),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
