"""Both sides of a weight: second moments of its inputs, and the curvature at its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pruners.recovery.refit import input_moments, intercept_of
from pruners.recovery.regression import Regression
from pruners.solvers.matrix import as_matrix, rows_of
from pruners.statistics import Likelihood, NoCurvatureError, collect

if TYPE_CHECKING:
    from graphs import Network


@dataclass(frozen=True)
class Sides:
    r"""What ½ Σ tr(G_g ΔW_g H_g ΔW_gᵀ) is made of, g the groups of a convolution.

    Args:
        weight: W, (groups, out, in), float64.
        hessian: H per place, (groups, in, in): about the mean where an intercept can be fitted.
            Slices of a stack (experts) are groups, each with the places that are routed to it.
        curvature: G, summed over the places of a prediction, (groups, out, out).
        samples: places that H is of.
        unreached: why no gradient reaches the outputs, if none does: G is then the identity, as
            strong as it is on an average weight.
    """

    weight: torch.Tensor
    hessian: torch.Tensor
    curvature: torch.Tensor
    samples: float
    unreached: str | None = None

    @property
    def reached(self) -> bool:
        """Whether gradients reach the outputs."""
        return self.unreached is None

    def loss(self, change: torch.Tensor) -> float:
        """Expected loss of a change of the weight, (groups, out, in)."""
        return float((self.curvature @ change * (change @ self.hessian)).sum()) / 2

    def statistics(self) -> dict[str, torch.Tensor]:
        """Its curvature as solvers read it: (out, out), float32; none where it was not reached."""
        return {"curvature": torch.block_diag(*self.curvature).float()} if self.reached else {}

    @property
    def energy(self) -> float:
        """Expected loss when the weight is 0."""
        return self.loss(self.weight)


def measure_sides(
    net: Network,
    model: nn.Module,
    batches: Sequence[Any],
    weights: Iterable[str],
    likelihood: Likelihood | None = None,
) -> dict[str, Sides]:
    """Both sides of weights, by two forward passes over the batches and a backward pass.

    Where the forward blocks gradients everywhere, all weights lose relative to their own outputs.

    Args:
        net: the network of this model.
        model: runs in evaluation mode and is left as it was.
        batches: inputs of the model.
        weights: names; those that no measured call reads are missing from the result.
        likelihood: see `pruners.statistics.curvature`.

    Raises:
        ValueError: no batches, or numbers that are not finite.
    """
    names = list(weights)
    moments = input_moments(net, model, batches, names)
    curvature, reasons = dict[str, torch.Tensor](), dict[str, str]()
    try:
        seen = collect(model, batches, list(moments), ("curvature",), likelihood=likelihood)
        curvature = {n: e["curvature"] for n, e in seen.tensors().items() if "curvature" in e}
        reasons = seen.unreached
    except NoCurvatureError as error:
        reasons = dict.fromkeys(moments, str(error))
    return both_sides_of(net, moments, curvature, reasons)


def both_sides_of(
    net: Network,
    moments: Mapping[str, Regression],
    found: Mapping[str, torch.Tensor],
    reasons: Mapping[str, str],
) -> dict[str, Sides]:
    """Both sides of weights that were measured already.

    Args:
        net: whose weights they are.
        moments: weight name → sums over its inputs.
        found: weight name → curvature per prediction, (out, out), or its diagonal, (out,).
        reasons: weight name → why there is no curvature of it.

    Raises:
        ValueError: numbers that are not finite.
    """
    sides, strengths = {}, []
    for name, sums in moments.items():
        tensor, sums = net.tensors[name], sums.double()
        if intercept_of(net, name, tensor) is None:
            sums = sums.about_zero()
        groups = len(sums.xx)
        matrix = as_matrix(tensor.value.detach(), rows_of(net, name)).to(sums.xx)
        given = found.get(name)
        weight = matrix.unflatten(0, (groups, -1))
        size = weight.shape[1]
        if given is None:
            curvature = torch.eye(size).to(weight).expand(groups, size, size)
        elif given.ndim == 1:
            curvature = given.to(weight).reshape(groups, size).diag_embed()
        else:
            blocks = given.to(weight).reshape(groups, size, groups, size)
            curvature = torch.stack([blocks[g, :, g] for g in range(groups)])
        hessian = sums.xx / sums.count.clamp_min(1.0)[:, None, None]
        one = Sides(weight, hessian, curvature, float(sums.count.mean()), reasons.get(name))
        _refuse_infinite(name, one)
        sides[name] = one
        if one.reached and one.energy > 0:
            strengths.append(one.energy)
    strength = torch.tensor(strengths or [1.0], dtype=torch.float64).median().item()
    return {name: one if one.reached else _as_strong(one, strength) for name, one in sides.items()}


def _refuse_infinite(name: str, one: Sides) -> None:
    parts = {
        "it has": one.weight,
        "its inputs have, on the calibration,": one.hessian,
        "the gradients at its outputs have, on the calibration,": one.curvature,
    }
    for part, value in parts.items():
        if not value.isfinite().all():
            raise ValueError(
                f'no expected loss of "{name}": {part} numbers that are inf or NaN; look at the '
                "weights of the model and at the calibration batches"
            )


def _as_strong(one: Sides, strength: float) -> Sides:
    """A weight that no gradient reached, with the expected loss of an average one."""
    scale = strength / one.energy if one.energy > 0 else 1.0
    return replace(one, curvature=one.curvature * scale)
