"""Budget allocators: which share of every tensor stays."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from pruners.budgets.problems.levels import ROUNDING, Levels, allowance
from pruners.budgets.problems.problem import LOGIT_MARGIN
from pruners.budgets.problems.projection import bounds, project
from pruners.budgets.structure import STRUCTURE
from pruners.sides import matrix_shape
from pruners.solvers.zeros import MaskPattern

if TYPE_CHECKING:
    from graphs import Network

# A rule: (weights by name, kept share of all of them, evidence by keyword) → kept share by name.
# Evidence comes by what the signature names: structure of the network (`STRUCTURE`), the request
# (`REQUEST`), options of the caller, and what is measured on calibration data.
Rule = Callable[..., "dict[str, float]"]
AnyRule = TypeVar("AnyRule", bound=Rule)

ALLOCATORS: dict[str, Rule] = {}

REQUEST = ("pattern", "lower", "upper")


def allocator(name: str) -> Callable[[AnyRule], AnyRule]:
    """Register a rule (weights, density, **evidence) → kept shares under a name."""

    def register(rule: AnyRule) -> AnyRule:
        if name in ALLOCATORS:
            raise ValueError(f'a budget rule "{name}" is already registered')
        ALLOCATORS[name] = rule
        return rule

    return register


def named(budget: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The rule that a budget names, and its options.

        "price"                                   a rule
        {"rule": "search", "evaluations": 400}    a rule with options
        {"fc": 0.9, "layer3.*": 0.2}              kept shares by name or pattern: rule "manual"

    Raises:
        ValueError: an empty mapping.
    """
    if isinstance(budget, str):
        return budget, {}
    if not budget:
        raise ValueError(
            'the budget is empty: name a rule, such as "lamp", or give kept shares by name'
        )
    rule = budget.get("rule")
    if isinstance(rule, str):
        return rule, {key: value for key, value in budget.items() if key != "rule"}
    return "manual", {"values": dict(budget)}


def prunable_weights(net: Network) -> list[str]:
    """Names of the tensors that masks may thin out: weight matrices and convolution kernels."""
    return [
        name
        for name, tensor in net.tensors.items()
        if tensor.role == "weight" and tensor.value.ndim >= 2 and tensor.value.numel() > 0
    ]


def allocate(
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
    if name not in ALLOCATORS:
        raise ValueError(f'unknown budget "{name}": expected one of {", ".join(ALLOCATORS)}')
    if not 0 <= density <= 1:
        raise ValueError(f"density is the share of weights that stays, 0 to 1 (got {density})")
    names = prunable_weights(net) if weights is None else list(weights)
    if not names:
        raise ValueError("nothing to budget: the network has no weight matrices")
    unknown = sorted(set(corrections or {}) - set(names))
    if unknown:
        raise ValueError(f'correction for "{unknown[0]}", which is not among the budgeted weights')
    values = {n: net.tensors[n].value for n in names}
    zeros = MaskPattern.parse(pattern)
    levels = Levels.of(zeros, {n: matrix_shape(net, n) for n in names}, lower, upper)
    total = allowance(density, sum(levels.sizes))
    levels.check(total)
    request: dict[str, Any] = {"pattern": zeros, "lower": lower, "upper": upper}
    accepted = _check_evidence(name, evidence)
    if isinstance(evidence.get("start"), str):
        begin = str(evidence["start"])
        known = _parameters(begin) if begin in ALLOCATORS else []
        # What was measured for this rule serves the one it starts from; its options do not.
        shared = {k: v for k, v in evidence.items() if k in known and k in MEASURED}
        evidence["start"] = allocate(
            begin, net, density, weights=names, lower=lower, upper=upper, **shared
        )
    found: dict[str, Any] = {
        key: make(net, names) for key, make in STRUCTURE.items() if key in accepted
    }
    found |= {key: value for key, value in request.items() if key in accepted}
    shares = ALLOCATORS[name](values, density, **{**found, **evidence})

    low, high = bounds(lower, names, 0.0), bounds(upper, names, 1.0)
    listed = torch.tensor([shares[n] for n in names], dtype=torch.float64)
    sizes = {n: v.numel() for n, v in values.items()}
    inside = bool(((listed >= low) & (listed <= high)).all())
    kept = float((listed * torch.tensor(levels.sizes)).sum())
    met = abs(kept - density * sum(levels.sizes)) <= 1 + ROUNDING * sum(levels.sizes)
    if corrections or not inside or not met:
        shares = corrected_shares(shares, sizes, density, corrections or {}, lower, upper)
    return levels.shares(levels.nearest([shares[n] for n in names], total))


MEASURED = ("loss", "norms")
"""Evidence that comes from calibration data; `pruners.budgets.evidence.measured` collects it."""


def _parameters(name: str) -> list[str]:
    return list(inspect.signature(ALLOCATORS[name]).parameters)[2:]


def _check_evidence(name: str, evidence: Mapping[str, Any]) -> list[str]:
    """Refuse a call that lacks what the rule needs, or brings what it does not read.

    Returns:
        The names of all that the rule reads.
    """
    parameters = list(inspect.signature(ALLOCATORS[name]).parameters.values())[2:]
    for parameter in parameters:
        given = (*evidence, *STRUCTURE, *REQUEST)
        if parameter.default is not parameter.empty or parameter.name in given:
            continue
        if parameter.name not in MEASURED:
            raise ValueError(f'budget "{name}" needs the option {parameter.name}')
        raise ValueError(
            f'budget "{name}" needs {parameter.name}, which is measured on calibration data; '
            "provide calibration batches or choose a rule that reads the weights alone"
        )
    accepted = [parameter.name for parameter in parameters]
    unknown = sorted(set(evidence) - set(accepted))
    if unknown:
        raise ValueError(f'budget "{name}" does not read "{unknown[0]}"; leave it out')
    return accepted


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
