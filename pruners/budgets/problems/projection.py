"""The one exact projection that every budget goes through."""

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


def counts(shares: torch.Tensor | Sequence[float], sizes: Sequence[int], total: int) -> list[int]:
    """Round kept shares to whole weights whose sum is exactly `total` (largest remainder).

    Args:
        shares: kept share of each tensor, summing to `total` when weighted by `sizes`, up to
            floating-point error.
        sizes: weights in each tensor.
        total: weights that stay altogether.

    Returns:
        Weights that stay in each tensor, between 0 and its size; equal remainders are served in
        order.

    Raises:
        ValueError: a total that does not fit the sizes, or shares that keep another number.
    """
    exact = torch.as_tensor(shares, dtype=torch.float64).detach().cpu() * torch.tensor(
        sizes, dtype=torch.float64
    )
    if not 0 <= total <= sum(sizes):
        raise ValueError(f"cannot keep {total} of {sum(sizes)} weights")
    if abs(exact.sum().item() - total) > 1 + 1e-6 * sum(sizes):
        raise ValueError(
            f"the shares keep {exact.sum().item():.1f} weights, not the asked {total}; project "
            "them onto the budget first"
        )
    size = torch.tensor(sizes, dtype=torch.int64)
    kept = exact.floor().long().clamp(min=torch.zeros_like(size), max=size)
    while (missing := total - int(kept.sum())) != 0:
        step = 1 if missing > 0 else -1
        remainder = step * (exact - kept)
        remainder[(kept >= size) if step > 0 else (kept <= 0)] = -torch.inf
        order = remainder.argsort(descending=True, stable=True)
        chosen = order[: min(abs(missing), int(remainder.isfinite().sum()))]
        kept[chosen] += step
    return kept.tolist()


def grouped(
    shares: torch.Tensor | Sequence[float], sizes: Sequence[int], m: int, total: int
) -> list[int]:
    """Round kept shares to N of every M, a number for each tensor, within the budget.

    One position stays at least. Never more than `total` weights stay, and no tensor could take one
    more position of its groups: of all tensors with room, the smallest step is larger than what is
    left. Where all tensors are of one size the budget is met exactly if it is a whole number of
    steps.

    Args:
        shares: kept share of each tensor.
        sizes: weights in each tensor, multiples of `m`.
        m: group size.
        total: weights that may stay altogether.

    Returns:
        N of each tensor, 1 to m.

    Raises:
        ValueError: a total below one position of every group.
    """
    if total < sum(size // m for size in sizes):
        raise ValueError(
            f"a budget of {total} weights is less than one of every {m} (of {sum(sizes)}); ask "
            "for a larger kept share or a larger group"
        )
    exact = torch.as_tensor(shares, dtype=torch.float64).detach().cpu() * m
    # A share that is a multiple up to rounding is that multiple.
    kept = (exact + 1e-9).floor().clamp(1, m).long().tolist()
    steps = [size // m for size in sizes]
    left = total - sum(n * step for n, step in zip(kept, steps, strict=True))
    while left < 0:  # shares that do not fit give way where they were rounded down the least
        i = min((i for i, n in enumerate(kept) if n > 1), key=lambda i: exact[i].item() - kept[i])
        kept[i] -= 1
        left += steps[i]
    while open_to := [i for i, n in enumerate(kept) if n < m and steps[i] <= left]:
        i = max(open_to, key=lambda i: exact[i].item() - kept[i])
        kept[i] += 1
        left -= steps[i]
    return kept


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
