"""Scores of units: how much of the network's weight hangs on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from graphs.axes.dims import Atom, atoms
from pruners.positions import sum_over_others, to_all_units

if TYPE_CHECKING:
    from graphs import Network

# Running statistics describe activations and constants need not be weights at all, so a large
# entry there says nothing about how much of the function hangs on the unit.
SCORED_ROLES = ("weight", "embedding", "bias", "scale")


def _root(total: torch.Tensor) -> torch.Tensor:
    """Square root whose gradient at 0 is 0, so that dead units do not poison a regulariser."""
    positive = total > 0
    return torch.where(positive, torch.where(positive, total, 1.0).sqrt(), 0.0)


_BLOCK = 2**17
"""Entries that are scored at a time."""

# norm → (what is summed over the entries, what is taken of the sum)
NORMS: Mapping[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable]] = {
    "l1": (torch.abs, lambda total: total),
    "l2": (torch.square, _root),
}
NORMALIZERS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": torch.ones_like,
    "mean": lambda score: score.mean(),
    "max": lambda score: score.amax(),
}


def unit_scores(
    net: Network,
    norm: str = "l2",
    values: Mapping[str, torch.Tensor] | None = None,
    *,
    normalize: str = "none",
    corrections: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    r"""Group magnitude: ‖all entries of all tensor slices that go when the unit goes‖.

    For unit u of an axis, s(u) = (Σ |w|^p)^(1/p) over the slices of every weight, embedding, bias
    and norm scale along the axis, on the producing and on the consuming side (Fang et al. 2023,
    "DepGraph", eq. 4, with one group for an axis). Differentiable with respect to `values`, with
    gradient 0 at dead units.

    Args:
        net: the network.
        norm: "l2" or "l1".
        values: tensor name → value to score instead of the network's own (shapes equal).
        normalize: see `normalized`.
        corrections: see `corrected`.

    Returns:
        Axis name → scores of shape (size,), at least float32, for every axis that is not frozen.

    Raises:
        ValueError: unknown norm or normalisation, or a tensor on the meta device.
    """
    power, root = _look_up("norm", norm, NORMS)
    free = {name for name, axis in net.axes.items() if axis.frozen is None}
    totals: dict[str, torch.Tensor] = {}
    for name, tensor in net.tensors.items():
        prunable = [[a for a in atoms(d) if a in free] for d in tensor.dims]
        value = tensor.value if values is None else values.get(name, tensor.value)
        if tensor.role not in SCORED_ROLES or not any(prunable) or not value.is_floating_point():
            continue
        if value.is_meta:
            raise ValueError(f"{name} is on the meta device and has no values to score")
        sums = _sums(value, power, [i for i, axes in enumerate(prunable) if axes])
        for i, per_position in sums.items():
            dim = tensor.dims[i]
            if isinstance(dim, Atom):
                along = {dim.axis: per_position}
            else:
                along = to_all_units(per_position, dim, prunable[i], net.axes)
            for axis, found in along.items():
                totals[axis] = totals[axis] + found if axis in totals else found
    scores = {
        name: root(totals[name]) if name in totals else torch.zeros(axis.size)
        for name, axis in net.axes.items()
        if axis.frozen is None
    }
    scores = normalized(scores, normalize)
    return scores if corrections is None else corrected(scores, corrections)


def _sums(
    value: torch.Tensor, power: Callable[[torch.Tensor], torch.Tensor], sides: Sequence[int]
) -> dict[int, torch.Tensor]:
    """Sums of the powers of the entries along each of some dimensions, over all others.

    Block by block where no gradient is wanted, so that the powers stay in the processor's cache.
    """
    wide = torch.promote_types(value.dtype, torch.float32)
    rows = max(1, _BLOCK * len(value) // max(1, value.numel())) if value.ndim > 1 else 0
    if not rows or rows >= len(value) or value.requires_grad:
        entries = power(value.to(wide))
        return {i: sum_over_others(entries, i) for i in sides}
    found: dict[int, list[torch.Tensor]] = {i: [] for i in sides}
    for block in value.split(rows):
        entries = power(block.to(wide))
        for i, parts in found.items():
            part = sum_over_others(entries, i)
            if i and parts:
                parts[0] += part
            else:
                parts.append(part)
    return {i: torch.cat(parts) for i, parts in found.items()}


def base_scores(
    net: Network, values: Mapping[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """The score that baselines use and metanetworks correct: group L2 over the axis' largest.

    Global L2 pruning in the convention of DepGraph (Fang et al. 2023).
    """
    return unit_scores(net, "l2", values, normalize="max")


def normalized(scores: Mapping[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    """Make the scores of different axes comparable before one threshold cuts them all.

    Args:
        scores: axis name → scores (size,).
        how: "none"; "mean" divides by the mean of the axis; "max" by its largest score, as DepGraph
            does and as served best before one global threshold on trained residual networks.

    Raises:
        ValueError: unknown normalisation.
    """
    scale = _look_up("normalization", how, NORMALIZERS)
    return {
        name: score / scale(score).clamp_min(torch.finfo(score.dtype).tiny)
        if score.numel()
        else score
        for name, score in scores.items()
    }


def corrected(
    scores: Mapping[str, torch.Tensor], corrections: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Add corrections to the logarithm of scores: s(u)·exp(c(u)).

    Args:
        scores: axis name → scores (size,).
        corrections: axis name → c, shape (size,) for single units or () for the whole axis; a
            missing axis is left as it is.

    Raises:
        ValueError: an axis that has no scores, or a correction of another shape.
    """
    unknown = sorted(set(corrections) - set(scores))
    if unknown:
        raise ValueError(f'correction for axis "{unknown[0]}", which has no scores to correct')
    result = dict(scores)
    for name, correction in corrections.items():
        score = scores[name]
        if correction.shape not in (torch.Size(), score.shape):
            raise ValueError(
                f'correction for axis "{name}": expected shape () or {tuple(score.shape)} '
                f"(got {tuple(correction.shape)})"
            )
        result[name] = score * correction.to(score).exp()
    return result


def _look_up(what: str, key: str, table: Mapping):  # type: ignore[no-untyped-def]
    if key not in table:
        raise ValueError(f'unknown {what} "{key}": expected one of {", ".join(table)}')
    return table[key]
