"""Damping: how far an estimated Hessian is to be trusted, and what follows from it.

A Hessian from few samples is too certain of its correlations: solvers that use it in full fit the
calibration data, not the layer. Adding a share λ of its diagonal is shrinkage towards independent
inputs (Ledoit & Wolf 2004, with the diagonal as target) and does not depend on the units of a
column. How large λ should be depends on two things: on columns / samples, the share by which
estimated conditional variances fall short of the true ones, and on how large those are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Damping under which conditional variances are first looked at, and the least that is ever added.
FIRST, LEAST = 0.01, 0.002
# Columns / samples where the number of samples is not known.
UNKNOWN = 0.25
ESCALATIONS = 6


@dataclass(frozen=True)
class Damped:
    """A positive definite Hessian and the conditional variances of its inputs.

    Args:
        hessian: H + λ diag(H), (in, in); its dead inputs have 1 + λ on the diagonal.
        share: λ.
        variances: 1 / [H⁻¹]_jj, (in,): what of an input no linear map of all others explains.
        pivots: (in,): in a random order of the inputs, what of each those before it do not explain,
            as a share of its own variance (1 + λ at first, and less and less).
        dead: bool, (in,): inputs that are always zero.
        note: a sentence for a person; empty when nothing was unusual.
    """

    hessian: torch.Tensor
    share: float
    variances: torch.Tensor
    pivots: torch.Tensor
    dead: torch.Tensor
    note: str

    def unexplained(self, density: float) -> float:
        """Geometric mean of the pivots up to a share of 2.5 · density of the inputs.

        About what of an input the kept ones do not explain, relative to its variance, where a share
        `density` of all is kept.
        """
        last = max(1, min(len(self.pivots), round(2.5 * density * len(self.pivots))))
        return self.pivots[:last].log().mean().exp().item()


def shrinkage(hessian: torch.Tensor, samples: torch.Tensor | float | None) -> float:
    """λ for a Hessian from this many samples.

    min(1, columns / samples) · det(R)^{1/columns}, where R is the correlation matrix: the
    geometric mean of what half of the other inputs leave unexplained. At least 0.002; a quarter
    stands for columns / samples where the samples were not counted.

    Args:
        hessian: (in, in), float32 or float64.
        samples: that it was estimated from; None when not known.
    """
    correlation, _, dead = _correlation(hessian)
    factor, _ = _factor(correlation, FIRST)
    columns = max(1, len(dead) - int(dead.count_nonzero()))
    ratio = UNKNOWN if samples is None else min(1.0, columns / max(float(samples), 1.0))
    alive = factor.diagonal()[~dead] if columns < len(dead) else factor.diagonal()
    return max(LEAST, ratio * (2 * alive.log().mean()).exp().nan_to_num(1.0).item())


def damp(hessian: torch.Tensor, share: float) -> Damped:
    """Add a share of its diagonal to a Hessian, ten times more until it is positive definite.

    Args:
        hessian: (in, in), symmetric, positive semi-definite up to rounding; float32 or float64.
        share: λ.

    Raises:
        ValueError: a Hessian that no sensible damping makes positive definite.
    """
    correlation, scale, dead = _correlation(hessian)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(scale), generator=generator).to(hessian.device)
    factor, amount = _factor(correlation[order][:, order], share)
    inverse = torch.empty_like(scale)
    inverse[order] = torch.cholesky_inverse(factor).diagonal().to(scale.dtype)
    correlation.diagonal().fill_(1.0 + amount)
    note = f" The Hessian was damped by {amount:g} of its diagonal." if amount > share else ""
    return Damped(
        hessian=correlation.mul_(scale[:, None]).mul_(scale),
        share=amount,
        variances=scale.square() / inverse,
        pivots=factor.diagonal().square(),
        dead=dead,
        note=note,
    )


def _correlation(hessian: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """H in units in which its diagonal is one, these units, and which inputs are always zero."""
    diagonal = hessian.diagonal()
    dead = diagonal <= 0
    scale = torch.where(dead, 1.0, diagonal).sqrt()
    return hessian / scale[:, None] / scale, scale, dead


def _factor(correlation: torch.Tensor, share: float) -> tuple[torch.Tensor, float]:
    """Lower Cholesky factor with 1 + λ on the diagonal, and the λ that was needed."""
    damped = correlation.clone()
    for attempt in range(ESCALATIONS):
        amount = share * 10**attempt
        damped.diagonal().fill_(1.0 + amount)
        for dtype in dict.fromkeys((correlation.dtype, torch.float64)):
            factor, failed = torch.linalg.cholesky_ex(damped.to(dtype))
            # A pivot of the size of rounding errors is none.
            smallest = 4 * torch.finfo(dtype).eps * len(damped)
            if not failed and factor.diagonal().square().min() > smallest:
                return factor, amount
    raise ValueError(
        f"the Hessian is not positive definite even when damped by {amount:g} of its diagonal; "
        "collect it again, from more or saner calibration data"
    )
