"""What the metanetwork is told about units and tensors, standardised within the network.

Foreign magnitudes break a learned policy, so nothing enters as it is: statistics become ranks
within the axis and logarithms of ratios to the mean of the axis and of the network, clamped to
[-3, 3].
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log

import torch

from metanet.reading.values import GROUPS
from metanet.tables.describe import AXIS_FEATURES, LIMIT, TENSOR_STRUCTURE
from metanet.tables.layout import Layout
from metanet.tables.matrices import CHANGED

EVIDENCE = 3
"""Evidence columns of a unit: |sum w g|, Fisher information, sum |w g|."""
POSITIVE = 2 * 2 + 4 + EVIDENCE  # norms of both sides, four vectors, evidence
SIGNED = 3  # scale, bias, running mean
UNIT_FEATURES = 3 * POSITIVE + SIGNED + len(GROUPS) + 1 + AXIS_FEATURES + 2
TENSOR_FEATURES = 3 + TENSOR_STRUCTURE + 2


def check_target(target: float | torch.Tensor) -> float:
    """The share that stays, as a float in (0, 1].

    Raises:
        ValueError: outside (0, 1].
    """
    share = float(target)
    if not 0 < share <= 1:
        raise ValueError(f"'target' is the share that stays, in (0, 1] (got {share})")
    return share


@torch.no_grad()
def unit_features(
    layout: Layout,
    sums: torch.Tensor,
    evidence: Mapping[str, torch.Tensor] | None,
    target: float,
) -> torch.Tensor:
    """Features of every unit, from the sums of `reading.statistics`.

    Args:
        layout: of the network.
        sums: float64 (units, groups, 4).
        evidence: axis name -> (size, 3), non-negative columns; axes may be missing.
        target: share that stays.

    Returns:
        float64 (units, UNIT_FEATURES), in [-3, 3].

    Raises:
        ValueError: evidence that does not fit the network.
    """
    proof, told = _evidence(layout, evidence, sums)
    total, absolute, squares, count = sums.unbind(-1)
    present = (count > 0).to(sums)
    mean_absolute = absolute / count.clamp(min=1)
    positive = torch.cat(
        [squares[:, :2].sqrt(), mean_absolute[:, :2], mean_absolute[:, 2:], proof], dim=1
    )
    return torch.cat(
        [
            *_relative(positive, layout),
            _signed(total[:, 2:5] / count[:, 2:5].clamp(min=1), layout),
            present,
            told,
            layout.about_axes[layout.unit_axis],
            _columns(target, sums),
        ],
        dim=1,
    )


@torch.no_grad()
def tensor_features(layout: Layout, sums: torch.Tensor, target: float) -> torch.Tensor:
    """Features of every tensor that may change: moments, and what is known without weights.

    Args:
        layout: of the network.
        sums: float64 (tensors, 4), of `reading.statistics`.
        target: share that stays.

    Returns:
        float64 (changed, TENSOR_FEATURES), in [-3, 3].
    """
    sums = sums[: layout.changed]
    _, absolute, squares, count = sums.unbind(-1)
    sigma = (squares / count).sqrt()
    fan_in = torch.tensor([m.cols * m.kernel for m in layout.matrices[: layout.changed]])
    roles = [CHANGED.index(m.role) for m in layout.matrices[: layout.changed]]
    alike, members = torch.tensor(roles, dtype=torch.int64, device=sums.device), sigma > 0
    level = torch.where(members, _log(sigma), 0)
    mean = level.new_zeros(len(CHANGED)).index_add_(0, alike, level)
    mean /= level.new_zeros(len(CHANGED)).index_add_(0, alike, members.to(level)).clamp(min=1)
    moments = [
        _log(sigma * fan_in.to(sums).sqrt()),
        (level - mean[alike]) * members,
        4 * (absolute / count / sigma.clamp(min=1e-300)) - 3,
    ]
    moment = torch.stack(moments, dim=1).nan_to_num(0, LIMIT, -LIMIT).clamp(-LIMIT, LIMIT)
    return torch.cat([moment, layout.about_tensors, _columns(target, sums)], dim=1)


def _log(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(min=1e-300).log()


def _columns(target: float, like: torch.Tensor) -> torch.Tensor:
    """The target as two columns: centred, and as a logarithm."""
    row = torch.tensor([2 * target - 1, max(-LIMIT, 1 + log(target))], dtype=like.dtype)
    return row.to(like.device).expand(len(like), 2)


def _evidence(
    layout: Layout, evidence: Mapping[str, torch.Tensor] | None, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Evidence of every unit (units, 3) and whether there is any (units, 1)."""
    evidence = evidence or {}
    parts, told = [], []
    for axis, size in zip(layout.axes, layout.sizes, strict=True):
        known = evidence.get(axis)
        if known is not None and tuple(known.shape) != (size, EVIDENCE):
            raise ValueError(
                f"evidence of axis '{axis}' must have shape ({size}, {EVIDENCE}) "
                f"(got {tuple(known.shape)})"
            )
        told.append(like.new_full((size, 1), float(known is not None)))
        parts.append(like.new_zeros(size, EVIDENCE) if known is None else known.detach().to(like))
    if not parts:
        return like.new_zeros(0, EVIDENCE), like.new_zeros(0, 1)
    return torch.cat(parts).abs().nan_to_num(0, 0, 0), torch.cat(told)


def _relative(x: torch.Tensor, layout: Layout) -> list[torch.Tensor]:
    """Non-negative (units, S) -> log-ratio to the axis, log-ratio of the axis to the network, rank.

    A statistic that is zero on the whole axis (absent, or dead) is 0 everywhere.
    """
    means = _axis_mean(x, layout)
    level = means[layout.unit_axis]
    own = (_log(x) - _log(level)).clamp(-LIMIT, LIMIT) * (level > 0)
    logs, some = _log(means), (means > 0).to(x)
    network = (logs * some).sum(0) / some.sum(0).clamp(min=1)
    wide = ((logs - network).clamp(-LIMIT, LIMIT) * some)[layout.unit_axis]
    return [own, wide, _rank(x, layout) * (level > 0)]


def _axis_mean(x: torch.Tensor, layout: Layout) -> torch.Tensor:
    """(units, S) -> (axes, S)."""
    sums = x.new_zeros(len(layout.axes), x.shape[1]).index_add_(0, layout.unit_axis, x)
    return sums / torch.tensor(layout.sizes, device=x.device).clamp(min=1)[:, None]


def _rank(x: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Rank within the axis in [-1, 1], (units, S); values within 1e-6 of each other are ties."""
    out = []
    for part in x.T.contiguous().split(layout.sizes, dim=1):  # (S, size)
        ordered = part.sort(dim=1).values
        below = torch.searchsorted(ordered, part * (1 - 1e-6), right=False)
        upto = torch.searchsorted(ordered, part * (1 + 1e-6), right=True)
        out.append((below + upto).to(x) / part.shape[1] - 1)
    return torch.cat(out, dim=1).T if out else torch.zeros_like(x)


def _signed(x: torch.Tensor, layout: Layout) -> torch.Tensor:
    """(units, S) -> ratio to the root mean square of the axis, clamped."""
    scale = _axis_mean(x.square(), layout).sqrt()[layout.unit_axis]
    return (x / scale.clamp(min=1e-300)).clamp(-LIMIT, LIMIT)
