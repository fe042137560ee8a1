"""Arguments that people give, in the form that calls need; others are refused in words."""

from __future__ import annotations

from typing import Any

import torch


def said(given: Any) -> str:
    """What was given, in a few words: short values as they are, of others what they are.

    said(None) == "None"     said([[1.0]]) == "a list"     said(torch.eye(2)) == "a float32 tensor"
    """
    if isinstance(given, torch.Tensor):
        kind = f"{str(given.dtype).removeprefix('torch.')} tensor"
        kind = f"{kind} without values" if given.is_meta else kind
    elif given is None or isinstance(given, bool | int | float | str):
        return repr(given)
    else:
        kind = type(given).__name__
    return f"{'an' if kind[0] in 'aeio' else 'a'} {kind}"


def whole_numbers(given: Any, what: str) -> torch.Tensor:
    """Places in an order, as people give them, on the CPU.

    Args:
        given: whole numbers: a sequence, an array or a tensor of them.
        what: they are, for the error: "order of up.out".

    Returns:
        int64, of the shape that was given.

    Raises:
        ValueError: something else; masks and fractions would be taken for other places.
    """
    try:
        found = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is not None and not found.numel():
        return torch.empty(found.shape, dtype=torch.int64)
    if found is None or found.is_meta or not _whole(found.dtype):
        mask = found is not None and found.dtype == torch.bool
        remedy = "; of a mask, give the places where it is true (mask.nonzero())" if mask else ""
        shown = said(given)
        if found is not None and not isinstance(given, torch.Tensor):
            shown += f" of {str(found.dtype).removeprefix('torch.')}"
        raise ValueError(
            f"{what}: expected whole numbers, a list or a tensor (got {shown}){remedy}"
        )
    return found.to("cpu", torch.int64)


def real_numbers(given: Any, wanted: str) -> torch.Tensor:
    """A tensor of real numbers as it was given.

    Args:
        given: a floating-point or integer tensor.
        wanted: what it has to be, for the error: "embed.out: expected a matrix (6, 6)".

    Raises:
        ValueError: something else, or a tensor without values.
    """
    tensor = isinstance(given, torch.Tensor) and not given.is_meta
    if not tensor or not (given.is_floating_point() or _whole(given.dtype)):
        raise ValueError(f"{wanted}, a tensor of real numbers (got {said(given)})")
    return given


def _whole(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)
