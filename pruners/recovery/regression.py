"""Sums for the linear regression of a layer's outputs on its inputs, and its solution.

Means travel with products of distances from them and merge by the rule of Chan, Golub & LeVeque
(1979), so a large mean costs no precision. Everything has a leading dimension for the groups of a
grouped convolution, whose weights see different inputs; it is 1 elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from pruners.statistics.calls import Call
from pruners.statistics.calls.rows import column_blocks, input_blocks, of_slices, output_blocks

DAMPING = 1e-3
"""Share of the variance of every input that is added to it; from 1e-4 to 1e-1 pruned ResNets were
equally accurate."""

ROUNDING = 64 * torch.finfo(torch.float64).eps
LEAST, ESCALATIONS = 1e-13, 12


@dataclass
class Regression:
    """What was summed over the samples that a weight has seen.

    Args:
        count: samples of each group, (groups,), float64.
        x_mean, xx: inputs, (groups, in), and Σ (x − x̄)(x − x̄)ᵀ, (groups, in, in).
        y_mean, xy: targets, (groups, out), and Σ (x − x̄)(y − ȳ)ᵀ, (groups, in, out); out may be 0.
        yy: Σ ‖y − ȳ‖².
    """

    count: torch.Tensor
    x_mean: torch.Tensor
    xx: torch.Tensor
    y_mean: torch.Tensor
    xy: torch.Tensor
    yy: float = 0.0

    @classmethod
    def of_samples(cls, x: torch.Tensor, y: torch.Tensor | None = None) -> Regression:
        """Sums of a few samples: x (groups, samples, in) and y (groups, samples, out)."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        y = x[..., :0] if y is None else y.to(x)
        groups, count, _ = x.shape
        x_mean, y_mean = (v.sum(1) / max(count, 1) for v in (x, y))
        x = x - x_mean[:, None]
        y = y - y_mean[:, None]
        yy = y.square().sum(dtype=torch.float64).item() if y.numel() else 0.0
        counts = torch.full((groups,), float(count), dtype=torch.float64, device=x.device)
        return cls(counts, x_mean, x.mT @ x, y_mean, x.mT @ y, yy)

    @classmethod
    def of_call(
        cls, call: Call, target: torch.Tensor | None = None, samples: int | None = None
    ) -> Regression:
        """Sums over the places that a linear map or convolution sees.

        Args:
            call: the call; its zero-padded borders count as they are. Slices of a stack are
                groups with as many samples as they have places.
            target: what it should return, in the layout of its output.
            samples: of the places, at most, drawn by a fixed seed; None for all. Neighbouring
                places say much the same.
        """
        x, y = input_blocks(call), None
        if call.slices is not None:
            return cls._of_slices(call, x[0])
        if target is not None:
            y = output_blocks(target.detach(), call.channel_dim, call.groups)
        if samples is not None and x.shape[1] > samples:
            generator = torch.Generator().manual_seed(0)
            drawn = torch.randperm(x.shape[1], generator=generator)[:samples].to(x.device)
            x, y = x[:, drawn], None if y is None else y[:, drawn]
        found = cls.of_samples(x, y)
        return found if call.groups == call.blocks else found._in_columns(column_blocks(call))

    @classmethod
    def _of_slices(cls, call: Call, x: torch.Tensor) -> Regression:
        """Inputs of every slice of a stack: x (places, in)."""
        each = [cls.of_samples(rows[None]) for rows in of_slices(x, call)]
        count, x_mean, xx, y_mean, xy = (
            torch.cat([getattr(one, field) for one in each])
            for field in ("count", "x_mean", "xx", "y_mean", "xy")
        )
        return cls(count, x_mean, xx, y_mean, xy)

    def _in_columns(self, columns: torch.Tensor) -> Regression:
        """Groups as samples of one matrix, each of them 0 in the columns of the others."""
        groups, width = columns.shape
        total: Regression | None = None
        for group in range(groups):
            here = columns[group]
            x_mean = self.x_mean.new_zeros(1, groups * width)
            x_mean[0, here] = self.x_mean[group]
            xx = self.xx.new_zeros(1, groups * width, groups * width)
            xx[0, here[:, None], here] = self.xx[group]
            xy = self.xy.new_zeros(1, groups * width, self.xy.shape[2])
            xy[0, here] = self.xy[group]
            one = Regression(
                self.count[group, None],
                x_mean,
                xx,
                self.y_mean[group, None],
                xy,
                self.yy if group == 0 else 0.0,
            )
            total = one if total is None else total.merge_(one)
        assert total is not None
        return total

    def merge_(self, other: Regression) -> Regression:
        """Add the samples of another; in place."""
        together = self.count + other.count
        share = (other.count / together.clamp_min(1.0))[:, None]
        between = self.count[:, None] * share
        x_gap, y_gap = other.x_mean - self.x_mean, other.y_mean - self.y_mean
        spread = (x_gap * between.to(x_gap))[:, :, None]
        self.xx += other.xx + spread * x_gap[:, None]
        self.xy += other.xy + spread * y_gap[:, None]
        self.yy += other.yy + (between * y_gap.square()).sum().item()
        self.x_mean += x_gap * share.to(x_gap)
        self.y_mean += y_gap * share.to(y_gap)
        self.count = together
        return self

    def double(self) -> Regression:
        """The same in float64, to be solved."""
        x_mean, xx, y_mean, xy = (v.double() for v in (self.x_mean, self.xx, self.y_mean, self.xy))
        return Regression(self.count, x_mean, xx, y_mean, xy, self.yy)

    def about_zero(self) -> Regression:
        """Second moments about 0 instead of the means: for a map that cannot take an intercept."""
        count = self.count[:, None].to(self.x_mean)
        weighted = (self.x_mean * count)[:, :, None]
        return Regression(
            self.count,
            torch.zeros_like(self.x_mean),
            self.xx + weighted * self.x_mean[:, None],
            torch.zeros_like(self.y_mean),
            self.xy + weighted * self.y_mean[:, None],
            self.yy + (count * self.y_mean.square()).sum().item(),
        )

    def given(self, weight: torch.Tensor) -> Regression:
        """Targets are what this weight makes of the inputs: (groups, out, in), no bias."""
        y_mean = (weight @ self.x_mean[:, :, None]).squeeze(2)
        xy = self.xx @ weight.mT
        return replace(self, y_mean=y_mean, xy=xy, yy=(weight * xy.mT).sum().item())

    def lost(self, weight: torch.Tensor) -> float:
        """Σ ‖y − Wx − b‖² with the best intercept b, for W (groups, out, in)."""
        left = self.yy - (self.xy * weight.mT).sum() * 2 + (weight * (weight @ self.xx)).sum()
        return max(0.0, left.item())

    def intercept(self, weight: torch.Tensor) -> torch.Tensor:
        """ȳ − W x̄, the best b, (groups, out)."""
        return self.y_mean - (weight @ self.x_mean[:, :, None]).squeeze(2)

    def of_inputs(self, columns: torch.Tensor) -> Regression:
        """The same about some of the inputs."""
        return replace(
            self,
            x_mean=self.x_mean[:, columns],
            xx=self.xx[:, columns][:, :, columns],
            xy=self.xy[:, columns],
        )


@dataclass(frozen=True)
class Fit:
    """The best weight.

    Args:
        weight: (groups, out, in).
        intercept: (groups, out); to be added to the outputs.
        gain: what Σ ‖y − Wx − b‖² has lost against the start with its best intercept; ≥ 0.
        damping: that was needed.
    """

    weight: torch.Tensor
    intercept: torch.Tensor
    gain: float
    damping: float


class LostFunctionError(ValueError):
    """A pruned network that computes NaN or infinity."""


def fit(sums: Regression, start: torch.Tensor, damping: float = DAMPING) -> Fit:
    r"""Least squares, drawn towards the weight that is there already.

        min_W,b Σ ‖y − W x − b‖² + λ ‖(W − W₀) D^½‖²,   D = diag Σ (x − x̄)²

    The error is never above that of W₀ with its best intercept, whatever λ is, and W₀ stays where
    it is optimal: exactly so where no input says otherwise. With λ = 0 it is W = H_kk⁻¹ (H W)_k
    of ZipLM (Kurtic et al. 2023) and Týr-the-Pruner (Li et al. 2025), with an intercept.

    Args:
        sums: of float64; `Regression.about_zero` for no intercept.
        start: W₀, (groups, out, in).
        damping: λ, ten times more until the system is positive definite.

    Raises:
        ValueError: statistics that no sensible damping makes positive definite.
    """
    pull = sums.xy - sums.xx @ start.mT  # (groups, in, out)
    diagonal = sums.xx.diagonal(dim1=1, dim2=2)
    dead = diagonal <= 0
    scale = torch.where(dead, 1.0, diagonal).sqrt()
    correlation = sums.xx / scale[:, :, None] / scale[:, None]
    step = torch.zeros_like(pull)
    used = damping
    if pull.numel() and pull.any():
        for used in (damping, *(max(damping, LEAST) * 10**i for i in range(1, ESCALATIONS))):
            correlation.diagonal(dim1=1, dim2=2).copy_(torch.where(dead, 1.0, 1.0 + used))
            factor, failed = torch.linalg.cholesky_ex(correlation)
            pivots = factor.diagonal(dim1=1, dim2=2).square()
            # A pivot of the size of rounding errors is none.
            if not failed.any() and pivots.min() > ROUNDING * correlation.shape[1]:
                break
        else:
            raise ValueError(
                f"the inputs' second moments are not positive definite even when damped by {used:g}"
                " of their diagonal; collect them again, from more or saner calibration data"
            )
        step = torch.cholesky_solve(pull / scale[:, :, None], factor) / scale[:, :, None]
        step = torch.where(dead[:, :, None], 0.0, step)
    weight = start + step.mT
    gain = 2 * (step * pull).sum() - (step * (sums.xx @ step)).sum()
    return Fit(weight, sums.intercept(weight), max(0.0, gain.item()), used)
