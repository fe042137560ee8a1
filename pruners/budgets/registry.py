"""Budget allocators: which share of every tensor stays."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from pruners.budgets.projection import project

if TYPE_CHECKING:
    from graphs import Network

# A rule: (weights by name, kept share of all of them, evidence by keyword) → kept share by name.
Rule = Callable[..., "dict[str, float]"]
AnyRule = TypeVar("AnyRule", bound=Rule)

ALLOCATORS: dict[str, Rule] = {}

# A share this close to 0 or 1 is as good as the bound, and its logit is still finite.
LOGIT_MARGIN = 1e-6


def allocator(name: str) -> Callable[[AnyRule], AnyRule]:
    """Register a rule (weights, density, **evidence) → kept shares under a name."""

    def register(rule: AnyRule) -> AnyRule:
        if name in ALLOCATORS:
            raise ValueError(f'a budget rule "{name}" is already registered')
        ALLOCATORS[name] = rule
        return rule

    return register


def prunable_weights(net: Network) -> list[str]:
    """Names of the tensors that masks may thin out: weight matrices and convolution kernels."""
    return [
        name
        for name, tensor in net.tensors.items()
        if tensor.role == "weight" and tensor.value.ndim >= 2 and tensor.value.numel() > 0
    ]


def allocate(
    name: str,
    net: Network,
    density: float,
    *,
    weights: Iterable[str] | None = None,
    corrections: Mapping[str, torch.Tensor] | None = None,
    lower: float = 0.0,
    upper: float = 1.0,
    **evidence: Any,
) -> dict[str, float]:
    """Kept share of every prunable tensor, with Σ size · share = density · Σ size exactly.

    Args:
        name: a registered rule.
        net: the network.
        density: share of the prunable weights that stays, 0 to 1.
        weights: names of the tensors to budget; default `prunable_weights(net)`.
        corrections: tensor name → number added to the logit of the rule's share, for instance by a
            metanetwork; a missing tensor is left to the rule. The budget stays exact.
        lower: smallest kept share of a tensor.
        upper: largest kept share of a tensor.
        evidence: what the rule asks for beyond the weights.

    Raises:
        ValueError: unknown rule, evidence that is missing or unknown, nothing to prune, or a
            density outside the bounds.
    """
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
    _check_evidence(name, evidence)
    shares = ALLOCATORS[name](values, density, **evidence)
    bounded = all(lower <= share <= upper for share in shares.values())
    if not corrections and bounded:
        return shares
    return corrected_shares(
        shares, {n: v.numel() for n, v in values.items()}, density, corrections or {}, lower, upper
    )


def _check_evidence(name: str, evidence: Mapping[str, Any]) -> None:
    """Refuse a call that lacks what the rule needs, or brings what it does not read."""
    parameters = list(inspect.signature(ALLOCATORS[name]).parameters.values())[2:]
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.name not in evidence:
            raise ValueError(
                f'budget "{name}" needs {parameter.name}, which is measured on calibration data; '
                "provide calibration batches or choose a rule that reads the weights alone"
            )
    unknown = sorted(set(evidence) - {parameter.name for parameter in parameters})
    if unknown:
        raise ValueError(f'budget "{name}" does not read "{unknown[0]}"; leave it out')


def corrected_shares(
    shares: Mapping[str, float],
    sizes: Mapping[str, int],
    density: float,
    corrections: Mapping[str, torch.Tensor],
    lower: float = 0.0,
    upper: float = 1.0,
) -> dict[str, float]:
    """Shares whose logits are moved by corrections and shifted back onto the budget together.

    Args:
        shares: kept share by tensor name.
        sizes: weights by tensor name.
        density: kept share of all weights.
        corrections: number added to the logit, by tensor name; a missing name means 0.
        lower: smallest kept share of a tensor.
        upper: largest kept share of a tensor.
    """
    names = list(shares)
    share = torch.tensor([shares[name] for name in names], dtype=torch.float64)
    span = max(upper - lower, torch.finfo(torch.float64).tiny)
    inside = ((share - lower) / span).clamp(LOGIT_MARGIN, 1 - LOGIT_MARGIN)
    moved = torch.stack([torch.as_tensor(corrections.get(name, 0.0)).detach() for name in names])
    logits = torch.logit(inside) + moved.double().cpu().reshape(-1)
    kept = project(logits, [sizes[name] for name in names], density, lower, upper)
    return dict(zip(names, kept.tolist(), strict=True))
