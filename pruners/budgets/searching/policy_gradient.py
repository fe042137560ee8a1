"""Search by policy gradient: a Gaussian over logits, learned from antithetic pairs."""

from __future__ import annotations

from math import erf, exp, log, pi, sqrt

import torch

from pruners.budgets.problems.problem import Problem
from pruners.budgets.searching.judge import Judge

SPREAD = 0.4
CUT = 2.0
RATE = 0.15


def climb(
    problem: Problem,
    start: torch.Tensor,
    judge: Judge,
    generator: torch.Generator,
    spread: float = SPREAD,
    cut: float = CUT,
    rate: float = RATE,
) -> None:
    r"""Propose to the judge until its evaluations are spent.

    The policy is θ = μ + σ·ε with ε a standard Gaussian cut off at ± a. A pair ε, −ε gives

        g = (L(μ + σε) − L(μ − σε)) · ε / (2 σ Var ε)

    which has the gradient of a linear L as its mean; the published estimator, L(x)(x − μ)/σ² with
    the density of the cut Gaussian, leaves its boundary out and comes out short by the factor Var ε
    (Liao et al. 2025, "Compress LLMs via Collaboration Between Learning and Matrix Approximation").
    The logarithm of the loss is descended, by Adam; σ and the rate fall linearly to a quarter.

    Sparsities and ranks are dials of one problem and move together.

    Args:
        problem: turns logits into choices.
        start: first μ, (L,).
        judge: measures and remembers.
        generator: of all random numbers, on the CPU.
        spread: first σ.
        cut: a, in units of σ.
        rate: of Adam, at first.
    """
    mean = start.double().clone().requires_grad_()
    optimizer = torch.optim.Adam([mean], lr=rate)
    judge(problem.realise(mean.detach()))
    while not judge.spent:
        left = 1 - 0.75 * len(judge.measured) / judge.evaluations
        sigma = spread * left
        noise = cut_gaussian(mean.numel(), cut, generator)
        pair = [
            log(max(judge(problem.realise(mean.detach() + side * sigma * noise)), 1e-30))
            for side in (1.0, -1.0)
        ]
        mean.grad = antithetic(pair[0] - pair[1], noise, sigma, cut)
        optimizer.param_groups[0]["lr"] = rate * left
        optimizer.step()
        if judge.spent:
            break
        # Every few pairs the mean itself is worth a look: it is less noisy than what it drew.
        if len(judge.measured) % 10 < 2:
            judge(problem.realise(mean.detach()))


def antithetic(
    difference: float | torch.Tensor, noise: torch.Tensor, sigma: float, cut: float
) -> torch.Tensor:
    """(L(μ + σε) − L(μ − σε))·ε / (2σ Var ε): the gradient that one pair estimates, (L,)."""
    return difference * noise / (2 * sigma * variance(cut))


def cut_gaussian(count: int, cut: float, generator: torch.Generator) -> torch.Tensor:
    """Standard Gaussians cut off at ± `cut`, float64, by the inverse of their distribution."""
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    low = 0.5 * (1 + erf(-cut / sqrt(2)))
    return torch.special.ndtri(low + uniform * (1 - 2 * low)).clamp(-cut, cut)


def variance(cut: float) -> float:
    """Variance of a standard Gaussian cut off at ± `cut`: 1 − 2aφ(a) / (2Φ(a) − 1)."""
    density = exp(-0.5 * cut * cut) / sqrt(2 * pi)
    return 1 - 2 * cut * density / erf(cut / sqrt(2))
