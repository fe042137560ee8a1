"""Moments: sums over samples that can be added up in any order, and what they mean.

Second moments and squared gradients are plain sums. Means travel with the sum of squared distances
from them, and merge by the rule of Chan, Golub & LeVeque (1979, eq. 2.1), which Welford's (1962)
recursion is a case of: nothing large is ever subtracted from something large.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch

# Statistic → the sums it is made of. A pair (mean, spread) is merged as such.
PARTS: dict[str, tuple[str, ...]] = {
    "norms": ("squares",),
    "hessian": ("outer",),
    "means": ("mean", "spread"),
    "variances": ("mean", "spread"),
    "output_means": ("output_mean", "output_spread"),
    "output_variances": ("output_mean", "output_spread"),
    "gradients": ("gradient_squares",),
    "curvature": ("output_gradients",),
}
BACKWARD = frozenset({"gradient_squares", "output_gradients"})
"""Sums that a backward pass adds after the forward has added all others."""
STATISTICS = tuple(PARTS)
BLOCK = 256
"""Columns of second moments that are multiplied at a time."""
OF_INPUTS = frozenset({"squares", "outer", "mean", "spread"})
"""Sums over the columns of a matrix."""
PAIRS = {"mean": "spread", "output_mean": "output_spread"}


def parts_of(needs: Iterable[str]) -> frozenset[str]:
    """The sums that these statistics are made of; a Hessian knows its norms."""
    wanted = frozenset(needs)
    parts = {part for name in wanted for part in PARTS[name]}
    if "hessian" in wanted:
        parts.discard("squares")
    return frozenset(parts)


@dataclass
class Moments:
    """What was summed over the samples of one weight.

    The law: merging the moments of any split of the samples, in any order, gives those of one pass.

    Args:
        samples: rows that the weight's matrix was multiplied with.
        positions: places of its output; as many, but for the groups of a grouped convolution.
        predictions: that gradients at the output were taken of.
        parts: name → sum, float32 or float64: squares (in,), outer (in, in), mean and spread (in,),
            output_mean and output_spread (out,), gradient_squares (out, in), output_gradients
            (out, out) or its diagonal (out,).
    """

    samples: float = 0.0
    positions: float = 0.0
    predictions: float = 0.0
    parts: dict[str, torch.Tensor] = field(default_factory=dict)

    def merge_(self, other: Moments) -> Moments:
        """Add the samples of another; in place, on the devices of this one.

        Raises:
            ValueError: both have samples, but not of the same statistics.
        """
        if self.samples and other.samples:
            mine, theirs = ({*m.parts} - BACKWARD for m in (self, other))
            if mine != theirs:
                raise ValueError(
                    f"moments of different statistics cannot be merged (got {sorted(mine)} and "
                    f"{sorted(theirs)})"
                )
        for name, value in other.parts.items():
            if name not in self.parts:
                self.parts[name] = value.clone()
                continue
            own = self.parts[name]
            value = value.to(own)
            if name not in PAIRS:
                own.add_(value)
                continue
            before, new = (m.count(name) for m in (self, other))
            share = new / max(before + new, 1.0)
            gap = value - own
            # What the two means are apart; the spread of the other is added in its own turn.
            self.parts[PAIRS[name]].add_(gap.square(), alpha=before * share)
            own.add_(gap, alpha=share)
        self.samples += other.samples
        self.positions += other.positions
        self.predictions += other.predictions
        return self

    def count(self, part: str) -> float:
        """What a mean or spread is over: samples, or positions for outputs."""
        return self.positions if part.startswith("output") else self.samples

    def statistics(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The asked statistics, and `samples`, float64.

        norms = √(Σ x² / samples), hessian = Σ x xᵀ / samples (symmetric), population variances,
        gradients = √Σ g², curvature = Σ g gᵀ / predictions (its diagonal for very many outputs).
        """
        n = max(self.samples, 1.0)
        result = {}
        for name in STATISTICS:
            source = "outer" if name == "norms" and "outer" in self.parts else PARTS[name][0]
            if name not in names or source not in self.parts:
                continue
            if name == "norms":
                squares = self.parts[source]
                squares = squares.diagonal() if squares.ndim == 2 else squares
                result[name] = (squares / n).clamp_min(0.0).sqrt()
            elif name == "hessian":
                outer = self.parts["outer"]
                # Products of blocks may round differently on the two sides of the diagonal.
                result[name] = (outer + outer.T).div_(2 * n)
            elif name == "gradients":
                result[name] = self.parts["gradient_squares"].sqrt()
            elif name == "curvature":
                outer = self.parts["output_gradients"] / max(self.predictions, 1.0)
                result[name] = (outer + outer.T) / 2 if outer.ndim == 2 else outer
            elif name.endswith("means"):
                result[name] = self.parts[PARTS[name][0]].clone()
            else:
                part = PARTS[name][1]
                result[name] = self.parts[part] / max(self.count(part), 1.0)
        device = next((value.device for value in result.values()), None)
        result["samples"] = torch.tensor(self.samples, dtype=torch.float64, device=device)
        return result


def of_rows(
    rows: torch.Tensor,
    outputs: torch.Tensor | None,
    wanted: frozenset[str],
    dtype: torch.dtype = torch.float32,
) -> Moments:
    """The moments of a few samples.

    Args:
        rows: inputs, (samples, in), any floating-point dtype.
        outputs: (positions, out); None when no output statistic is wanted.
        wanted: names of parts.
        dtype: sums are at least this wide.
    """
    rows = rows.to(torch.promote_types(rows.dtype, dtype))
    parts: dict[str, torch.Tensor] = {}
    if "outer" in wanted:
        parts["outer"] = gram(rows)
    if "squares" in wanted:
        parts["squares"] = rows.square().sum(0)
    if "mean" in wanted:
        parts |= _pair("mean", rows)
    if "output_mean" in wanted and outputs is not None:
        parts |= _pair("output_mean", outputs.to(torch.promote_types(outputs.dtype, dtype)))
    positions = 0.0 if outputs is None else float(outputs.shape[0])
    return Moments(float(rows.shape[0]), positions, parts=parts)


def embedded(moments: Moments, columns: torch.Tensor, width: int) -> Moments:
    """The same among more inputs, the others of which were 0.

    Args:
        moments: of inputs that lie in these columns.
        columns: their places, (in,), ascending.
        width: all columns.
    """
    parts = {}
    for name, value in moments.parts.items():
        if name in OF_INPUTS:
            wide = value.new_zeros(*value.shape[:-1], width)
            wide[..., columns] = value
            if value.ndim == 2:
                value, wide = wide, value.new_zeros(width, width)
                wide[columns] = value
            value = wide
        parts[name] = value
    return replace(moments, parts=parts)


def gram(rows: torch.Tensor) -> torch.Tensor:
    """Σ x xᵀ, (..., columns, columns), of rows (..., samples, columns).

    Of large ones only the upper blocks are multiplied: it is symmetric.
    """
    size = rows.shape[-1]
    if size <= 2 * BLOCK:
        return rows.mT @ rows
    found = rows.new_empty(*rows.shape[:-2], size, size)
    for first in range(0, size, BLOCK):
        last = first + BLOCK
        found[..., first:last, first:] = rows[..., first:last].mT @ rows[..., first:]
        found[..., last:, first:last] = found[..., first:last, last:].mT
    return found


def _pair(name: str, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    mean = rows.mean(0)
    return {name: mean, PAIRS[name]: (rows - mean).square().sum(0)}
