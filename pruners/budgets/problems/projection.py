"""The one projection of logits onto a budget, which every rule goes through; exact and smooth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

# Enough halvings for the bracket of any float64 logits to reach neighbouring numbers in practice;
# the Newton step afterwards removes what is left.
BISECTIONS = 100


def project(
    logits: torch.Tensor,
    sizes: torch.Tensor | Sequence[int],
    budget: float | torch.Tensor,
    lower: float | torch.Tensor = 0.0,
    upper: float | torch.Tensor = 1.0,
) -> torch.Tensor:
    r"""Kept shares with an exact size-weighted mean, by one monotone shift of the logits.

        k_l = lower_l + (upper_l − lower_l)·σ(θ_l + ν),    Σ n_l k_l = budget · Σ n_l

    ν is found by bisection in float64. The gradient is that of the implicit function,
    ∂ν/∂θ_j = −n_j c_j / Σ n_l c_l with c = ∂k/∂ν, obtained by one Newton step at the solution.

    Args:
        logits: θ, shape (L,).
        sizes: n, number of weights (or any cost) of each entry, shape (L,), positive.
        budget: share of the total that stays, differentiable when a tensor.
        lower: smallest kept share, a number or shape (L,).
        upper: largest kept share, a number or shape (L,).

    Returns:
        k, shape (L,), float64 (rounding to a narrower type would break the sum).

    Raises:
        ValueError: non-finite logits, bounds out of order, or a budget outside the range that the
            bounds allow (the message gives it).
    """
    theta = logits.to(torch.float64)
    n = torch.as_tensor(sizes, dtype=torch.float64, device=theta.device)
    low = torch.as_tensor(lower, dtype=torch.float64, device=theta.device).expand_as(theta)
    high = torch.as_tensor(upper, dtype=torch.float64, device=theta.device).expand_as(theta)
    asked = torch.as_tensor(budget, dtype=torch.float64, device=theta.device)
    _check(theta, n, low, high)

    total, room = n.sum(), n * (high - low)
    needed = asked * total - (n * low).sum()
    capacity, slack = room.sum(), 1e-12 * total
    if not -slack <= needed.detach() <= capacity + slack:
        raise ValueError(
            f"a budget of {asked.item():.6g} is outside what the bounds allow: "
            f"{((n * low).sum() / total).item():.6g} to {((n * high).sum() / total).item():.6g}"
        )
    share = (needed / capacity).detach().item() if capacity > slack else 0.0
    # At the ends of the range no finite shift exists and the shares do not depend on the logits.
    if share <= 1e-15:
        return low + 0.0 * theta
    if share >= 1 - 1e-15:
        return high + 0.0 * theta

    shift = _shift(theta.detach(), room, needed.detach(), share)
    activation = torch.sigmoid(theta + shift)
    slope = (room * activation * (1 - activation)).sum().detach()
    excess = (room * activation).sum() - needed
    # Without slope every entry sits at a bound and the shares are locally constant.
    shift = shift - excess / slope if slope > 0 else shift
    return low + (high - low) * torch.sigmoid(theta + shift)


def _shift(theta: torch.Tensor, room: torch.Tensor, needed: torch.Tensor, share: float) -> float:
    """The ν with Σ room·σ(θ + ν) = needed; bracketed where all entries are on one side."""
    centre = torch.logit(torch.tensor(share, dtype=torch.float64)).item()
    below, above = centre - theta.max().item(), centre - theta.min().item()
    for _ in range(BISECTIONS):
        middle = 0.5 * (below + above)
        if (room * torch.sigmoid(theta + middle)).sum() < needed:
            below = middle
        else:
            above = middle
    return 0.5 * (below + above)


def _check(theta: torch.Tensor, n: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> None:
    if theta.ndim != 1 or n.shape != theta.shape:
        raise ValueError(
            f"logits and sizes must be vectors of one length (got {tuple(theta.shape)} and "
            f"{tuple(n.shape)})"
        )
    if theta.numel() == 0:
        raise ValueError("nothing to budget (got no logits)")
    if not torch.isfinite(theta).all():
        raise ValueError("logits must be finite (got inf or NaN); clamp the scores they come from")
    if not (n > 0).all():
        raise ValueError("sizes must be positive; leave empty tensors out of the budget")
    if not ((low >= 0) & (low <= high) & (high <= 1)).all():
        raise ValueError("bounds must satisfy 0 <= lower <= upper <= 1")


def bounds(
    given: float | Mapping[str, float], names: Iterable[str], default: float
) -> torch.Tensor:
    """Bounds of shares as a vector (L,), float64.

    Args:
        given: one number for all, or by name.
        names: the tensors in order.
        default: for names that are left out.

    Raises:
        ValueError: a bound for a name that is not budgeted.
    """
    listed = list(names)
    if not isinstance(given, Mapping):
        return torch.full((len(listed),), float(given), dtype=torch.float64)
    unknown = sorted(set(given) - set(listed))
    if unknown:
        raise ValueError(f'bound for "{unknown[0]}", which is not among the budgeted weights')
    return torch.tensor([float(given.get(n, default)) for n in listed], dtype=torch.float64)
