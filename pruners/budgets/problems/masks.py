"""The budget of masks: how many units of its pattern stay of every tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch

from pruners.budgets.problems.levels import Levels, allowance
from pruners.budgets.problems.problem import Choice, Loss, logit, value_of
from pruners.budgets.problems.projection import bounds, project
from pruners.solvers.matrix import Rows, as_matrix, from_matrix, row_count
from pruners.solvers.zeros import MaskPattern

Solve: TypeAlias = Callable[[str, float], torch.Tensor]
"""(Tensor name, kept share) → pruned weight."""

BAND = 0.15
"""Share of the kept weights, on either side of the threshold, that set the price."""


class MaskProblem:
    """Magnitude masks on weights, a dial a tensor.

    A choice counts units of the pattern: weights, weights of every row, positions of every N:M
    group, blocks, or columns.

    Args:
        weights: tensor name → weight.
        density: kept share of all of them.
        loss: values → (loss, gradients); None where only choices are asked for.
        pattern: of the masks.
        out_dims: tensor name → output dimension, 0 where missing.
        lower: fewest kept share, a number or by tensor name.
        upper: largest kept share, likewise.
        solve: (tensor name, kept share) → pruned weight, where a solver other than magnitude will
            prune, or a repair will refit; budgets that suit bare magnitude masks do not suit these.

    Raises:
        ValueError: a weight that the pattern does not divide, or bounds that leave it no level.
        UnreachableTargetError: fewer weights are asked than the pattern or the bounds keep.
    """

    def __init__(
        self,
        weights: Mapping[str, torch.Tensor],
        density: float,
        loss: Loss | None,
        pattern: str | MaskPattern = "unstructured",
        out_dims: Mapping[str, Rows] | None = None,
        lower: float | Mapping[str, float] = 0.0,
        upper: float | Mapping[str, float] = 1.0,
        solve: Solve | None = None,
    ) -> None:
        self.dials = tuple(weights)
        self.pattern = MaskPattern.parse(pattern)
        self.sizes = [weight.numel() for weight in weights.values()]
        self.total = allowance(density, sum(self.sizes))
        sides = {name: (out_dims or {}).get(name, 0) for name in weights}
        shapes = {n: _matrix_shape(weight, sides[n]) for n, weight in weights.items()}
        self.levels = Levels.of(self.pattern, shapes, lower, upper)
        self.levels.check(self.total)
        self.lower = bounds(lower, self.dials, 0.0)
        self.upper = bounds(upper, self.dials, 1.0)
        self._weights = {name: weight.detach() for name, weight in weights.items()}
        self._loss, self._solve = loss, solve
        self._solved: dict[str, tuple[int, torch.Tensor]] = {}
        self._sides = sides
        self._ranks = {
            name: ranks(weight, self.pattern, sides[name]) for name, weight in self._weights.items()
        }

    def shares(self, choice: Choice) -> torch.Tensor:
        """Kept share of every tensor, (L,), float64."""
        return torch.tensor(choice, dtype=torch.float64) / torch.tensor(self.levels.whole)

    def realise(self, logits: torch.Tensor) -> Choice:
        """See `Problem`; within one unit of the smallest tensor below the budget."""
        budget = self.total / sum(self.sizes)
        share = project(logits, self.sizes, budget, self.lower, self.upper).detach()
        return tuple(self.levels.nearest(share, self.total))

    def logits(self, choice: Choice) -> torch.Tensor:
        """See `Problem`."""
        return logit(self.shares(choice), self.lower, self.upper)

    def start(self, shares: Mapping[str, float]) -> torch.Tensor:
        """Logits of kept shares by tensor name."""
        listed = torch.tensor([shares[name] for name in self.dials], dtype=torch.float64)
        return logit(listed, self.lower, self.upper)

    def room(self, choice: Choice) -> torch.Tensor:
        """See `Problem`; in weights."""
        share = self.shares(choice)
        return torch.tensor(self.sizes) * share * (1 - share)

    def masked(self, choice: Choice) -> dict[str, torch.Tensor]:
        """The pruned weights: the smallest set to zero, or what the solver makes of them."""
        if self._solve is not None:
            placed = enumerate(zip(self.dials, choice, strict=True))
            return {name: self._one(name, i, kept) for i, (name, kept) in placed}
        pairs = zip(self._weights.items(), choice, strict=True)
        return {name: weight * (self._ranks[name] < kept) for (name, weight), kept in pairs}

    def _one(self, name: str, place: int, kept: int) -> torch.Tensor:
        """A solver's weight; the last one of every tensor is remembered."""
        if self._solved.get(name, (-1, None))[0] != kept:
            assert self._solve is not None
            self._solved[name] = kept, self._solve(name, kept / self.levels.whole[place])
        return self._solved[name][1]

    def loss(self, choice: Choice) -> float:
        """See `Problem`."""
        assert self._loss is not None
        return value_of(self._loss, self.masked(choice))

    def prices(self, choice: Choice) -> tuple[float, torch.Tensor]:
        """See `Problem`: the mean of w·g over the weights of the units next to the threshold."""
        assert self._loss is not None
        value, gradients = self._loss(self.masked(choice))
        found = []
        for (name, weight), kept in zip(self._weights.items(), choice, strict=True):
            products = weight.float() * gradients[name].float()
            found.append(self._price(name, products, kept))
        return value, torch.tensor(found, dtype=torch.float64)

    def _price(self, name: str, products: torch.Tensor, kept: int) -> float:
        weight, pattern = self._weights[name], self.pattern
        if pattern.m:
            # The weakest weight that stays and the strongest that goes, in every group.
            near = (self._ranks[name] - kept + 0.5).abs() < 1
            return float(products[near].mean() if near.any() else products.mean())
        magnitudes = weight.abs().float()
        if pattern.block != (1, 1):
            side = self._sides[name]
            sums, energies = (
                pattern.units(as_matrix(x, side)) for x in (products, magnitudes.square())
            )
            return marginal_price(sums * (sums.numel() / weight.numel()), energies.sqrt(), kept)
        if pattern.name == "row":
            kept *= weight.shape[self._sides[name]]
        return marginal_price(products, magnitudes, kept)


def ranks(weight: torch.Tensor, pattern: MaskPattern, out_dim: Rows = 0) -> torch.Tensor:
    """Rank of every |w| where it competes, 0 for the largest; `rank < kept` is the mask.

    Blocks and columns are ranked by the root of the sum of squares of their entries, as
    `MaskPattern.choose` does. Ties go to the first position.

    Args:
        weight: any shape with an output dimension at `out_dim`.
        pattern: where weights compete: in the tensor, the row, or the group of M.
        out_dim: output dimension.

    Returns:
        The shape of the weight, int32.

    Raises:
        ValueError: a matrix that the pattern does not divide.
    """
    magnitude = weight.detach().abs()
    if pattern.name == "unstructured":
        return _ranked(magnitude.reshape(1, -1)).reshape(weight.shape)
    matrix = as_matrix(magnitude, out_dim)
    pattern.insist(*matrix.shape)
    if pattern.block == (1, 1):
        rank = _ranked(matrix.reshape(-1, pattern.levels(*matrix.shape))).reshape(matrix.shape)
    else:
        wide = torch.promote_types(matrix.dtype, torch.float32)
        worth = pattern.units(matrix.to(wide).square())
        rank = pattern.spread(_ranked(worth.reshape(1, -1)).reshape(worth.shape), matrix.shape[0])
    return from_matrix(rank, weight.shape, out_dim)


def _matrix_shape(weight: torch.Tensor, out_dim: Rows) -> tuple[int, int]:
    rows = row_count(weight.shape, out_dim)
    return rows, weight.numel() // rows


def _ranked(rows: torch.Tensor) -> torch.Tensor:
    order = rows.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(rows.shape[1], dtype=torch.int32, device=rows.device)
    return torch.empty_like(order, dtype=torch.int32).scatter_(1, order, places.expand_as(order))


def marginal_price(products: torch.Tensor, magnitudes: torch.Tensor, kept: int) -> float:
    """Mean of w·∂L/∂w over the weights near the threshold: the loss a further weight costs.

    Weighted by s(1 − s) of the soft mask s = σ((|w| − t) / (τ/2)), τ half the width of the band
    that holds 15 % of the kept weights on either side of the threshold t.

    Args:
        products: w·g of a tensor, g taken where the pruned weights are zero.
        magnitudes: |w|, the same shape, float32.
        kept: number of weights that stay.

    Returns:
        Negative where one more weight lowers the loss.
    """
    size = magnitudes.numel()
    flat = magnitudes.flatten()
    spread = max(1, round(BAND * kept))

    def ranked(rank: int) -> float:  # the rank-th largest
        return flat.kthvalue(size - min(max(rank, 1), size) + 1).values.item()

    threshold = 0.5 * (ranked(kept) + ranked(kept + 1))
    width = max(0.5 * (ranked(kept - spread) - ranked(kept + spread)), 1e-12 + 1e-6 * threshold)
    s = torch.sigmoid((flat - threshold) / (0.5 * width))
    band = s * (1 - s)
    return ((products.flatten().float() * band).sum() / band.sum().clamp_min(1e-30)).item()
