"""Budgets of masks beside low rank: one budget of stored numbers for both parts of every matrix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from pruners.budgets.budget import Budget
from pruners.budgets.masks import allocate_masks
from pruners.budgets.problems.composite import CompositeProblem
from pruners.budgets.problems.equalise import STEPS, equalise
from pruners.budgets.problems.levels import Levels, allowance
from pruners.budgets.problems.problem import Loss
from pruners.budgets.registry import check_evidence, keywords, rules_for
from pruners.budgets.searching.best import best_choice
from pruners.budgets.weights import prunable_weights
from pruners.solvers.algorithms.low_rank import rank_for
from pruners.solvers.algorithms.sparse_low_rank import RANK_SHARE
from pruners.solvers.matrix import matrix_shape, out_dims
from pruners.solvers.zeros import MaskPattern
from pruners.targets import UnreachableTargetError, show

if TYPE_CHECKING:
    from graphs import Network

JOINT = {"price": "price", "search": "evolution"}
"""Rules that divide weights and ranks of single-weight masks together → their method."""


def rules_beside(pattern: str | MaskPattern) -> list[str]:
    """Names of the rules that can divide a budget between masks of a pattern and ranks."""
    mask = MaskPattern.parse(pattern)
    if mask.m:
        return ["uniform"]
    return [n for n in rules_for("masks") if mask.name == "unstructured" or n not in JOINT]


def allocate_beside(
    name: str | Mapping[str, float],
    net: Network,
    density: float | None,
    pattern: str | MaskPattern,
    *,
    weights: Iterable[str] | None = None,
    rank_share: float = RANK_SHARE,
    **evidence: Any,
) -> Budget:
    """Masks and ranks beside them; what both store together is never more than asked.

    Ranks get their part of the numbers of each matrix, rounded down, and masks what is left, to
    less than one unit of the pattern. Masks of N:M are given, and what they leave is ranks, until
    no further rank fits. "price" and "search" divide single weights and ranks together
    (`allocate_composite`).

    Args:
        name: a rule of `rules_beside`, or kept shares by name or glob pattern (rule "manual").
        net: the network.
        density: stored numbers, as a share of the weights; None only for N:M, which then get
            `rank_share` of all numbers (Zhang & Papyan 2025, OATS, §3.3).
        pattern: of the masks.
        weights: names of the tensors; default `prunable_weights(net)`.
        rank_share: of what a matrix stores, the part of its ranks.
        evidence: what the rule asks for; for "price" and "search" also `norms`, and the options of
            `allocate_composite`.

    Raises:
        UnreachableTargetError: the masks alone store more; with the reachable range.
        ValueError: a rule that cannot divide this, evidence that is missing or unknown, a weight
            that the pattern does not divide, or no density where one is needed.
    """
    if isinstance(name, Mapping):
        name, evidence = "manual", {"values": name, **evidence}
    mask = MaskPattern.parse(pattern)
    known = rules_beside(mask)
    if name not in known:
        raise ValueError(
            f'budget rule "{name}" cannot divide {mask} masks beside low rank: expected one of '
            f"{', '.join(known)}"
        )
    names = prunable_weights(net) if weights is None else list(weights)
    if mask.m:
        return _beside_groups(net, density, mask, names, rank_share)
    if density is None:
        raise ValueError('say what to reach, for instance target={"sparsity": 0.5}')
    if name in JOINT:
        check_evidence(name, keywords(allocate_composite), evidence)
        given = {"method": JOINT[name], "rank_share": rank_share, **evidence}
        return allocate_composite(net, density, weights=names, **given)
    shares = allocate_masks(name, net, density, weights=names, pattern=mask, **evidence)
    shapes = {n: matrix_shape(net, n) for n in names}
    rank = {n: rank_for(rank_share * share, *shapes[n]) for n, share in shares.items()}
    cost = {n: r * sum(shapes[n]) for n, r in rank.items()}
    levels = Levels.of(mask, shapes)
    wanted = [shares[n] - cost[n] / size for n, size in zip(names, levels.sizes, strict=True)]
    total = allowance(density, sum(levels.sizes)) - sum(cost.values())
    density_of = levels.shares(levels.nearest(wanted, total))
    return Budget(density=density_of, rank={n: r for n, r in rank.items() if r})


def _beside_groups(
    net: Network, density: float | None, mask: MaskPattern, names: list[str], rank_share: float
) -> Budget:
    """N:M masks, and ranks for what they leave."""
    share = mask.n / mask.m
    asked = share / (1 - rank_share) if density is None else density
    levels = Levels.of(mask, {n: matrix_shape(net, n) for n in names})
    size, sparse = sum(levels.sizes), levels.stored([mask.n] * len(names))
    total = allowance(asked, size)
    if total < sparse:
        raise UnreachableTargetError(
            f"pattern {mask} alone keeps {share:.4g} of the weights, more than the asked "
            f"{show(asked)}: ask for a sparsity from 0 to {1 - share:.4g}, or choose another "
            "pattern"
        )
    steps = [sum(matrix_shape(net, n)) for n in names]
    room = [
        (mask.m - mask.n) * s // mask.m // step for s, step in zip(levels.sizes, steps, strict=True)
    ]
    open_ = [i for i, most in enumerate(room) if most > 0]
    ranks = Levels(
        names=tuple(names[i] for i in open_),
        whole=tuple(room[i] for i in open_),
        steps=tuple(steps[i] for i in open_),
        fewest=(0,) * len(open_),
        most=tuple(room[i] for i in open_),
        unit="ranks",
    )
    wanted = [(asked - share) * levels.sizes[i] / steps[i] / room[i] for i in open_]
    found = ranks.nearest(wanted, total - sparse) if open_ else []
    return Budget(
        density=dict.fromkeys(names, share),
        rank={n: r for n, r in zip(ranks.names, found, strict=True) if r},
    )


def allocate_composite(
    net: Network,
    density: float,
    *,
    loss: Loss,
    weights: Iterable[str] | None = None,
    norms: Mapping[str, torch.Tensor] | None = None,
    start: str | Mapping[str, float] = "lamp",
    rank_share: float = RANK_SHARE,
    method: str = "price",
    steps: int = STEPS,
    evaluations: int = 128,
    seed: int = 0,
    journal: str | None = None,
) -> Budget:
    """Sparse and low-rank shares of every matrix together, on one budget of stored numbers.

    Args:
        net: the network.
        density: stored numbers, as a share of the weights.
        loss: values → (loss, gradients).
        weights: names of the tensors; default `prunable_weights(net)`.
        norms: see `CompositeProblem`.
        start: a rule that reads the weights alone, or kept shares by name.
        rank_share: of what a matrix stores, the part that ranks get at the start.
        method: "price" (`equalise`), "evolution" or "policy-gradient" (`best_choice`).
        steps: backward passes of "price".
        evaluations, seed, journal: of the searches.

    Returns:
        `density` and `rank`; together they store the ⌊density · all⌋ numbers that are asked.

    Raises:
        ValueError: an unknown method or rule, or a loss that is not finite.
    """
    names = prunable_weights(net) if weights is None else list(weights)
    values = {name: net.tensors[name].value for name in names}
    problem = CompositeProblem(values, density, loss, norms, out_dims(net, names))
    shares = allocate_masks(start, net, density, weights=names) if isinstance(start, str) else start
    begin = problem.start(shares, rank_share)
    if method == "price":
        choice, _ = equalise(problem, begin, steps)
    else:
        choice, _ = best_choice(problem, begin, evaluations, method, seed, journal)
    count = len(names)
    kept = zip(names, choice[:count], problem.numel, strict=True)
    return Budget(
        density={name: k / size for name, k, size in kept},
        rank={name: r for name, r in zip(names, choice[count:], strict=True) if r},
    )
