"""The budget of widths: how many units of every axis stay, exact in MACs, parameters or bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from pruners.budgets.problems.problem import Choice, Loss, logit, value_of
from pruners.targets import Target
from pruners.units.fade import mask_values
from pruners.units.select import MinUnits, select

if TYPE_CHECKING:
    from graphs import Network

FAINT = 1e-3
"""Factor of removed units where gradients are taken: at zero itself a ReLU has none."""

BAND = 0.15
"""Share of the kept units, on either side of the threshold, that set the price."""


class WidthProblem:
    """Channels and heads, a dial an axis; units fade in the dense network.

    Costs multiply (a weight is as large as both its widths), so no weighted sum of shares is the
    budget: the logits of the axes become scores of units whose one threshold `units.select`
    finds by exact counts.

    Args:
        net: the dense network.
        scores: axis name → score of every unit; the highest stay.
        target: what the pruned network may cost.
        loss: values → (loss, gradients); None where only choices are asked for.
        min_units, round_to: see `units.select`.
        cut: see `pruners.budgets.problems.request.Request`.

    Raises:
        UnreachableTargetError: no widths meet the target.
    """

    def __init__(
        self,
        net: Network,
        scores: Mapping[str, torch.Tensor],
        target: Target | Mapping[str, object],
        loss: Loss | None,
        min_units: MinUnits = 0.05,
        round_to: int = 1,
        cut: Callable[..., dict[str, torch.Tensor]] = select,
    ) -> None:
        self.net, self.target = net, Target.parse(target)
        self.dials = tuple(scores)
        self.scores = {axis: score.detach().cpu().double() for axis, score in scores.items()}
        self.sizes = [score.numel() for score in scores.values()]
        self._loss, self._options = loss, (min_units, round_to)
        self._cut = cut
        self._ranks = {axis: _ranks(score) for axis, score in self.scores.items()}

    def realise(self, logits: torch.Tensor) -> Choice:
        """See `Problem`."""
        by_axis = dict(zip(self.dials, logits.detach(), strict=True))
        kept = self.select(place(self.scores, by_axis))
        return tuple(len(kept[axis]) for axis in self.dials)

    def select(self, scores: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The exact cut of any scores of the same units."""
        min_units, round_to = self._options
        return self._cut(self.net, scores, self.target, "global", min_units, round_to)

    def kept(self, choice: Choice) -> dict[str, torch.Tensor]:
        """Axis name → the units that stay, int64, ascending."""
        pairs = zip(self.dials, choice, strict=True)
        return {axis: (self._ranks[axis] < width).nonzero().flatten() for axis, width in pairs}

    def shares(self, choice: Choice) -> torch.Tensor:
        """Kept share of every axis, (L,), float64."""
        return torch.tensor(choice, dtype=torch.float64) / torch.tensor(self.sizes)

    def logits(self, choice: Choice) -> torch.Tensor:
        """See `Problem`; a whole axis is taken for one that could keep half a unit more."""
        half = 0.5 / torch.tensor(self.sizes, dtype=torch.float64)
        return logit(self.shares(choice).clamp(half, 1 - half))

    def room(self, choice: Choice) -> torch.Tensor:
        """See `Problem`; cost of an axis at the current widths of the others."""
        share = self.shares(choice)
        return self.costs(choice) * torch.tensor(self.sizes) * share * (1 - share)

    def costs(self, choice: Choice) -> torch.Tensor:
        """What one unit of every axis costs, as a share of the limit that binds, (L,), float64."""
        return unit_cost(self.net, self.target, dict(zip(self.dials, choice, strict=True)))

    def loss(self, choice: Choice) -> float:
        """See `Problem`."""
        return self.loss_of(self.kept(choice))

    def loss_of(self, kept: Mapping[str, torch.Tensor]) -> float:
        """Loss when only these units are left; forward passes only."""
        masks = {axis: self._mask(axis, index, 0.0) for axis, index in kept.items()}
        assert self._loss is not None
        return value_of(self._loss, mask_values(self.net, masks))

    def prices(self, choice: Choice) -> tuple[float, torch.Tensor]:
        """See `Problem`: mean of ∂L/∂mask over the units next to the threshold, by unit cost.

        Removed units are left at a thousandth, so that what they would do if they came back has a
        gradient; together with the units that would go next it brackets what one unit is worth.
        """
        masks = {
            axis: self._mask(axis, index, FAINT).requires_grad_()
            for axis, index in self.kept(choice).items()
        }
        with torch.enable_grad():
            values = mask_values(self.net, masks)
        assert self._loss is not None
        value, gradients = self._loss({name: v.detach() for name, v in values.items()})
        slopes = torch.autograd.grad(
            list(values.values()),
            list(masks.values()),
            [gradients[name] for name in values],
            allow_unused=True,
        )
        found = []
        for axis, width, slope in zip(self.dials, choice, slopes, strict=True):
            rank = self._ranks[axis]
            spread = max(1, round(BAND * width))
            near = (rank >= width - spread) & (rank < width + spread)
            found.append(0.0 if slope is None else slope.cpu()[near].double().mean().item())
        costs = self.costs(choice).clamp_min(1e-12)
        return value, torch.tensor(found, dtype=torch.float64) / costs

    def _mask(self, axis: str, kept: torch.Tensor, removed: float) -> torch.Tensor:
        mask = torch.full((self.net.axes[axis].size,), removed)
        mask[kept] = 1.0
        return mask


def place(
    scores: Mapping[str, torch.Tensor], logits: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    r"""Scores of units whose one threshold −ν keeps the share σ(θ_a + ν) of every axis.

        score(u) = θ_a − logit((rank(u) + ½) / size_a)

    with rank 0 for the unit of the axis that is most worth keeping, so that the shift ν of
    `project` is found by `units.select` with exact counts.
    """
    found = {}
    for axis, score in scores.items():
        rank = _ranks(score.detach().cpu().double()).double()
        found[axis] = logits[axis].double().cpu() - torch.logit((rank + 0.5) / score.numel())
    return found


def unit_cost(net: Network, target: Target, widths: Mapping[str, int]) -> torch.Tensor:
    """What the last unit of every axis costs at these widths, as a share of the binding limit.

    Returns:
        Shape (L,), float64, in the order of `widths`.
    """
    limits = target.limits(net)
    count: Callable[..., int] = max(limits, key=lambda c: c(net, widths) / max(limits[c], 1))
    here = count(net, widths)
    found = []
    for axis, width in widths.items():
        other = width - 1 if width > 1 else width + 1
        found.append(abs(here - count(net, {**widths, axis: other})))
    return torch.tensor(found, dtype=torch.float64) / max(limits[count], 1)


def _ranks(score: torch.Tensor) -> torch.Tensor:
    """Rank of every unit, 0 for the highest score; the first of equal scores comes first."""
    order = score.argsort(descending=True, stable=True)
    return torch.empty_like(order).scatter_(0, order, torch.arange(order.numel()))
