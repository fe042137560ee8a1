"""Budgets of masks: which share of every tensor stays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from pruners.budgets.problems.levels import ROUNDING, Levels, allowance
from pruners.budgets.problems.problem import LOGIT_MARGIN
from pruners.budgets.problems.projection import bounds, project
from pruners.budgets.registry import checked, dividing, needs
from pruners.budgets.structure import STRUCTURE
from pruners.budgets.weights import prunable_weights
from pruners.solvers.matrix import matrix_shape
from pruners.solvers.zeros import MaskPattern

if TYPE_CHECKING:
    from graphs import Network

REQUEST = ("pattern", "lower", "upper")
"""What is asked beside the density; a rule reads it by naming it in its signature."""


def allocate_masks(
    name: str | Mapping[str, float],
    net: Network,
    density: float,
    *,
    weights: Iterable[str] | None = None,
    corrections: Mapping[str, torch.Tensor] | None = None,
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
    pattern: str | MaskPattern = "unstructured",
    **evidence: Any,
) -> dict[str, float]:
    """Kept share of every prunable tensor: whole units of the pattern, within what is asked.

    Never more than density · Σ size weights stay, and no tensor with room could keep one more unit.
    Masks of single weights keep just the whole number below.

    Args:
        name: a registered rule, or kept shares by name or glob pattern (rule "manual").
        net: the network.
        density: share of the prunable weights that stays, 0 to 1.
        weights: names of the tensors to budget; default `prunable_weights(net)`.
        corrections: tensor name → number added to the logit of the rule's share, for instance by a
            metanetwork; a missing tensor is left to the rule. The budget stays exact.
        lower: smallest kept share of a tensor, one for all or by name.
        upper: largest kept share of a tensor, likewise.
        pattern: of the masks; `round(share · pattern.levels(rows, columns))` units of a weight
            stay.
        evidence: what the rule asks for beyond the weights. `start`, for rules that take one, may
            be the name of another rule.

    Raises:
        UnreachableTargetError: fewer weights are asked than the pattern or the bounds keep.
        ValueError: unknown rule, evidence that is missing or unknown, nothing to prune, a weight
            that the pattern does not divide, or a density outside the bounds.
    """
    if isinstance(name, Mapping):
        name, evidence = "manual", {"values": name, **evidence}
    dividing(name, "masks")
    if not 0 <= density <= 1:
        raise ValueError(f"density is the share of weights that stays, 0 to 1 (got {density})")
    names = prunable_weights(net) if weights is None else list(weights)
    if not names:
        raise ValueError("nothing to budget: the network has no weight matrices")
    unknown = sorted(set(corrections or {}) - set(names))
    if unknown:
        raise ValueError(f'correction for "{unknown[0]}", which is not among the budgeted weights')
    accepted = checked(name, "masks", evidence, (*STRUCTURE, *REQUEST))
    values = {n: net.tensors[n].value for n in names}
    zeros = MaskPattern.parse(pattern)
    levels = Levels.of(zeros, {n: matrix_shape(net, n) for n in names}, lower, upper)
    total = allowance(density, sum(levels.sizes))
    levels.check(total)
    if isinstance(evidence.get("start"), str):
        begin = str(evidence["start"])
        # What was measured for this rule serves the one it starts from; its options do not.
        shared = {k: v for k, v in evidence.items() if k in needs(begin)}
        evidence["start"] = allocate_masks(
            begin, net, density, weights=names, lower=lower, upper=upper, **shared
        )
    request: dict[str, Any] = {"pattern": zeros, "lower": lower, "upper": upper}
    brought = {key: make(net, names) for key, make in STRUCTURE.items() if key in accepted}
    brought |= {key: value for key, value in request.items() if key in accepted}
    shares = dividing(name, "masks")(values, density, **brought, **evidence)

    low, high = bounds(lower, names, 0.0), bounds(upper, names, 1.0)
    listed = torch.tensor([shares[n] for n in names], dtype=torch.float64)
    sizes = {n: v.numel() for n, v in values.items()}
    inside = bool(((listed >= low) & (listed <= high)).all())
    kept = float((listed * torch.tensor(levels.sizes)).sum())
    met = abs(kept - density * sum(levels.sizes)) <= 1 + ROUNDING * sum(levels.sizes)
    if corrections or not inside or not met:
        shares = corrected_shares(shares, sizes, density, corrections or {}, lower, upper)
    return levels.shares(levels.nearest([shares[n] for n in names], total))


def corrected_shares(
    shares: Mapping[str, float],
    sizes: Mapping[str, int],
    density: float,
    corrections: Mapping[str, torch.Tensor],
    lower: float | Mapping[str, float] = 0.0,
    upper: float | Mapping[str, float] = 1.0,
) -> dict[str, float]:
    """Shares whose logits are moved by corrections and shifted back onto the budget together.

    Args:
        shares: kept share by tensor name.
        sizes: weights by tensor name.
        density: kept share of all weights.
        corrections: number added to the logit, by tensor name; a missing name means 0.
        lower: smallest kept share of a tensor, one for all or by name.
        upper: largest kept share of a tensor, likewise.
    """
    names = list(shares)
    share = torch.tensor([shares[name] for name in names], dtype=torch.float64)
    low, high = bounds(lower, names, 0.0), bounds(upper, names, 1.0)
    span = (high - low).clamp_min(torch.finfo(torch.float64).tiny)
    inside = ((share - low) / span).clamp(LOGIT_MARGIN, 1 - LOGIT_MARGIN)
    moved = torch.stack([torch.as_tensor(corrections.get(name, 0.0)).detach() for name in names])
    logits = torch.logit(inside) + moved.double().cpu().reshape(-1)
    kept = project(logits, [sizes[name] for name in names], density, low, high)
    return dict(zip(names, kept.tolist(), strict=True))
