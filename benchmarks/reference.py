"""Straightforward implementations of published solvers: oracles for tests, peers for benchmarks.

Written from the formulas, in the order in which the papers state them, with the choices of the
published programs: SparseGPT (Frantar & Alistarh 2023), Wanda (Sun et al. 2024), ALPS (Meng et al.
2024) and the GBLM pruner (Das et al. 2023). Nothing is fused, cached or shared between budgets.
"""

from __future__ import annotations

import torch

DAMPING = 0.01


def damped(hessian: torch.Tensor, share: float = DAMPING) -> torch.Tensor:
    """H + λI with λ a share of the mean diagonal; inputs that are always zero get a one."""
    hessian = hessian.clone()
    dead = hessian.diagonal() == 0
    hessian[dead, dead] = 1
    hessian.diagonal().add_(share * hessian.diagonal().mean())
    return hessian


def sparsegpt(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    sparsity: float,
    n_of_m: tuple[int, int] | None = None,
    block: int = 128,
) -> torch.Tensor:
    """SparseGPT, algorithm 1: a block of columns chooses its mask, then column by column.

    Args:
        weight: (out, in).
        hessian: (in, in).
        sparsity: share of zeros; ignored for N:M.
        n_of_m: how many stay of how many.
        block: columns whose mask is chosen together.

    Returns:
        The pruned weight. The threshold is an element, so one more weight goes than asked, and
        all that tie with it, as in the original.
    """
    weight = weight.clone()
    weight[:, hessian.diagonal() == 0] = 0
    u = torch.linalg.cholesky(
        torch.cholesky_inverse(torch.linalg.cholesky(damped(hessian))), upper=True
    )
    for first in range(0, weight.shape[1], block):
        last = min(first + block, weight.shape[1])
        w, q = weight[:, first:last].clone(), torch.zeros_like(weight[:, first:last])
        errors, inner = torch.zeros_like(w), u[first:last, first:last]
        gone = torch.zeros_like(w, dtype=torch.bool)
        if n_of_m is None:
            scores = w**2 / inner.diagonal() ** 2
            threshold = scores.flatten().sort().values[int(scores.numel() * sparsity)]
            gone = scores <= threshold
        for i in range(last - first):
            if n_of_m is not None and i % n_of_m[1] == 0:
                n, m = n_of_m
                scores = w[:, i : i + m] ** 2 / inner.diagonal()[i : i + m] ** 2
                gone.scatter_(1, i + scores.topk(m - n, dim=1, largest=False).indices, True)
            q[:, i] = torch.where(gone[:, i], 0.0, w[:, i])
            error = (w[:, i] - q[:, i]) / inner[i, i]
            w[:, i:] -= error[:, None] @ inner[i, i:][None]
            errors[:, i] = error
        weight[:, first:last] = q
        weight[:, last:] -= errors @ u[first:last, last:]
    return weight


def wanda(weight: torch.Tensor, norms: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Wanda, eq. 1: the smallest |w|·‖x‖ of every output row go."""
    gone = (weight.abs() * norms).sort(dim=1, stable=True).indices
    gone = gone[:, : int(weight.shape[1] * sparsity)]
    return weight.scatter(1, gone, 0.0)


def gblm_scores(
    weight: torch.Tensor, norms: torch.Tensor, gradients: torch.Tensor, scale: float = 100.0
) -> torch.Tensor:
    """GBLM: |w|·‖x‖ + |w|·√Σ_s (scale · g_s)²; `gradients` is (samples, out, in)."""
    return weight.abs() * norms + weight.abs() * (scale * gradients).square().sum(0).sqrt()


def alps(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    sparsity: float,
    n_of_m: tuple[int, int] | None = None,
    iterations: int = 300,
    steps: int = 10,
) -> torch.Tensor:
    """ALPS: ADMM on the support with a growing penalty, then conjugate gradients on it.

    Args:
        weight: (out, in).
        hessian: (in, in).
        sparsity: share of zeros; ignored for N:M.
        n_of_m: how many stay of how many.
        iterations: at most, of ADMM.
        steps: of conjugate gradients.

    Returns:
        The pruned weight, in the dtype of `weight`.
    """
    h = damped(hessian)
    d = h.diagonal().sqrt()
    w = (weight * d).T  # columns are rows of the weight
    h = h / d[:, None] / d
    values, q = torch.linalg.eigh(h.double())
    values, q = values.to(h.dtype), q.to(h.dtype)
    target = h @ w
    kept = round(weight.numel() * (1 - sparsity))
    if n_of_m is not None:
        kept = weight.numel() * n_of_m[0] // n_of_m[1]

    def project(x: torch.Tensor) -> torch.Tensor:
        if n_of_m is None:
            chosen = x.square().flatten().topk(kept).indices
            return torch.zeros_like(x).flatten().scatter_(0, chosen, 1.0).view_as(x) * x
        n, m = n_of_m
        groups = x.T.reshape(-1, m)
        chosen = groups.square().topk(n, dim=1).indices
        return (torch.zeros_like(groups).scatter_(1, chosen, 1.0) * groups).view_as(x.T).T

    rho, grown = 0.1, False
    z, v = project(w), torch.zeros_like(w)
    before = z != 0
    for i in range(1, iterations + 1):
        b = q @ ((q.T @ (target - v + rho * z)) / (values + rho)[:, None])
        z = project(b + v / rho)
        v = v + rho * (b - z)
        if i % 3:
            continue
        support = z != 0
        change = int((support ^ before).sum())
        before = support
        if i >= 30 and change < 3e-4 * kept and grown:
            break
        if change > 0.1 * kept:
            rho, grown = 1.3 * rho, True
        elif change > 0.005 * kept:
            rho, grown = 1.2 * rho, True
        elif change > 0.5 and grown:
            rho = 1.1 * rho
        elif grown:
            break
        else:
            rho = rho / 5
            z, v = project(w), torch.zeros_like(w)
            before = z != 0
    support = (z != 0).to(h.dtype)
    x = z
    residual = (target - h @ x) * support
    direction, strength = residual, residual.square().sum()
    for _ in range(steps):
        image = (h @ direction) * support
        length = strength / (direction * image).sum().clamp_min(1e-30)
        x = x + length * direction
        residual = residual - length * image
        following = residual.square().sum()
        direction = residual + following / strength.clamp_min(1e-30) * direction
        strength = following
    return (x.T / d).to(weight.dtype)
