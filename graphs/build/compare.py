"""Running two modules on the same inputs, to tell whether they compute the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils import _pytree as pytree

from graphs.axes.dims import size
from graphs.calls.running import Inputs
from graphs.relate.structure import Structure, Tensor

# The class and the program make the same calls: what differs by more differs in more than rounding
# (a softmax scale of another head size may cost 1e-4 only).
_ROUNDING = {torch.float32: 2e-5, torch.float64: 1e-7}

# A prime: repeated along a matrix, the same numbers never come to the same column of other rows.
_DRAWN = 65537


Tolerance = float | Callable[[torch.dtype], float]


def agree(
    left: list[torch.Tensor] | Exception,
    right: list[torch.Tensor] | Exception,
    *,
    tolerance: Tolerance | None = None,
) -> bool:
    """Whether two forwards gave the same: as many tensors, of one shape, dtype and content.

    Args:
        left, right: what `graphs.calls.running.outputs` returned; an error agrees with nothing.
        tolerance: the largest difference of floating-point numbers, relative to the largest
            magnitude of the tensor on the right; a number, or one for each dtype. By default what
            the same calls differ by, rounding, number by number.
    """
    if isinstance(left, Exception) or isinstance(right, Exception) or len(left) != len(right):
        return False
    return all(_close(a, b, tolerance) for a, b in zip(left, right, strict=True))


def one_product_more(dtype: torch.dtype) -> float:
    """The tolerance for forwards that round once more, as where a matrix became two factors."""
    return float(torch.finfo(dtype).eps ** 0.5)


def _close(a: torch.Tensor, b: torch.Tensor, tolerance: Tolerance | None) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.is_meta or b.is_meta or not a.numel():
        return True
    if not a.is_floating_point():
        return torch.equal(a, b)
    if torch.equal(a, b):
        return True
    finite = b[b.isfinite()].abs()
    scale = float(finite.max().clamp_min(1e-6)) if finite.numel() else 1.0
    if tolerance is not None:
        most = tolerance(b.dtype) if callable(tolerance) else tolerance
        return torch.allclose(a, b, rtol=0.0, atol=most * scale, equal_nan=True)
    relative = _ROUNDING.get(b.dtype, 8 * torch.finfo(b.dtype).eps)
    return torch.allclose(a, b, rtol=relative, atol=0.1 * relative * scale, equal_nan=True)


def resized(inputs: Inputs, batch: int) -> Inputs:
    """The inputs with another number of examples: two, or three where there are two.

    Args:
        inputs: as traced.
        batch: number of examples in them; tensors whose first dimension differs stay as they are.
    """
    count = 3 if batch == 2 else 2

    def other(value: torch.Tensor) -> torch.Tensor:
        if not value.dim() or value.shape[0] != batch:
            return value
        return value[torch.arange(count, device=value.device) % batch]

    found: Inputs = pytree.tree_map_only(torch.Tensor, other, inputs)
    return found


def other_sizes(inputs: Inputs, batch: int) -> Iterator[tuple[int, Inputs]]:
    """The inputs with other sizes: of examples, and of every size that their other dimensions have.

    Dimensions of one size change together (height and width, tokens and their mask); entries are
    those that were there, over and over.

    Args:
        inputs: as traced.
        batch: number of examples in them.

    Yields:
        The size that is another one, and the inputs.
    """
    tensors = [v for v in pytree.tree_leaves(inputs) if isinstance(v, torch.Tensor)]
    examples = any(v.dim() and v.shape[0] == batch for v in tensors)
    sizes = dict.fromkeys(n for v in tensors for n in _apart(v, batch) if n > 1)
    for old, dims in ((batch, _examples), *((n, _others) for n in sizes)):
        wanted = (1, batch + 1) if dims is _examples else (old - 1, old + 1, 2 * old)
        if dims is _examples and not examples:
            continue
        for new in wanted:
            if new != old:
                yield old, _resized(inputs, dims, old, new, batch)


def _resized(inputs: Inputs, dims: Callable[..., range], old: int, new: int, batch: int) -> Inputs:
    def other(value: torch.Tensor) -> torch.Tensor:
        for dim in dims(value, batch):
            if value.shape[dim] == old:
                index = torch.arange(new, device=value.device) % old
                value = value.index_select(dim, index)
        return value

    found: Inputs = pytree.tree_map_only(torch.Tensor, other, inputs)
    return found


def _examples(value: torch.Tensor, batch: int) -> range:
    """The dimension of examples, where a tensor has it."""
    return range(int(value.dim() > 0 and value.shape[0] == batch))


def _others(value: torch.Tensor, batch: int) -> range:
    """All other dimensions."""
    return range(len(_examples(value, batch)), value.dim())


def _apart(value: torch.Tensor, batch: int) -> list[int]:
    """Sizes of the dimensions that are none of examples."""
    return [value.shape[dim] for dim in _others(value, batch)]


def informative(found: list[torch.Tensor] | Exception) -> bool:
    """Whether outputs can tell two modules apart: numbers that are finite and not all alike."""
    if isinstance(found, Exception):
        return False
    floats = [v for v in found if v.is_floating_point() and v.numel() > 1]
    return any(
        v.is_meta or bool(v.isfinite().all() and (v != v.flatten()[0]).any()) for v in floats
    )


def lively(net: Structure) -> dict[str, torch.Tensor]:
    """Random values of gain O(1) for the tensors of a network, in their roles; constants are real.

    They are for reading: values of one gain are windows of one stretch of numbers, so that all
    together take little more memory than the largest tensor.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = {
        True: torch.rand(_DRAWN, generator=generator).add_(0.5),
        False: torch.randn(_DRAWN, generator=generator),
    }
    made: dict[str, torch.Tensor] = {}
    windows: dict[Any, list[tuple[str, int]]] = {}
    for start, (name, tensor) in enumerate(net.tensors.items()):
        value = tensor.value
        if value.is_meta or not value.is_floating_point() or tensor.role == "constant":
            # A forward may write to its buffers.
            made[name] = value.clone() if name in net.source.buffers else value
            continue
        positive = tensor.role in ("scale", "running_var")
        gain = 1.0 if positive else _gain(net, tensor)
        key = positive, gain, value.dtype, value.device
        windows.setdefault(key, []).append((name, start % _DRAWN))
    for (positive, gain, dtype, device), places in windows.items():
        length = max(start + net.tensors[name].value.numel() for name, start in places)
        stretch = torch.empty(length, dtype=dtype, device=device)
        numbers = drawn[positive] * gain
        for piece in stretch.split(_DRAWN):
            piece.copy_(numbers[: piece.numel()])
        for name, start in places:
            shape = net.tensors[name].value.shape
            made[name] = stretch[start:][: shape.numel()].view(shape)
    return made


def _gain(net: Structure, tensor: Tensor) -> float:
    if tensor.role != "weight":
        return 1.0 if tensor.role == "embedding" else 0.3
    reads = [size(tensor.dims[i], net.axes) for i in tensor.reading]
    # By halves of an octave, so that widths which differ little share one stretch.
    return 2 ** (round(-math.log2(max(1, math.prod(reads)))) / 2)
