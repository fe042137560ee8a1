"""The budget of sparse + low-rank: one currency for the weights and the ranks of every matrix."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pruners.budgets.problems.levels import Levels, allowance
from pruners.budgets.problems.masks import marginal_price
from pruners.budgets.problems.problem import Choice, Loss, logit, value_of
from pruners.budgets.problems.projection import project
from pruners.solvers.matrix import Rows, as_matrix, from_matrix

SPARSE, RANK = "sparse", "rank"


class CompositeProblem:
    r"""W ≈ S + L with two dials a matrix: k weights of S at 1 each, r ranks of L at (m + n) each.

        L = the r leading terms of the SVD of W·D, divided by D;   S = the k largest of |W − L|·D

    D holds the norms of the inputs where they are known, so that L is the best approximation of the
    layer's outputs under uncorrelated inputs. A rank costs the numbers of its two vectors, and no
    more ranks are allowed than cost less than the dense matrix.

    What whole ranks leave over goes to S, so that the budget is met to one weight where S has room.

    Args:
        weights: tensor name → weight.
        density: numbers that stay, as a share of all weights.
        loss: values → (loss, gradients).
        norms: tensor name → norms of the inputs over the columns of `as_matrix`.
        out_dims: tensor name → output dimension, 0 where missing.
    """

    def __init__(
        self,
        weights: Mapping[str, torch.Tensor],
        density: float,
        loss: Loss,
        norms: Mapping[str, torch.Tensor] | None = None,
        out_dims: Mapping[str, Rows] | None = None,
    ) -> None:
        self.names = tuple(weights)
        self.dials = (*(f"{n}:{SPARSE}" for n in weights), *(f"{n}:{RANK}" for n in weights))
        self._loss = loss
        self._weights = {name: weight.detach() for name, weight in weights.items()}
        self._sides = {name: (out_dims or {}).get(name, 0) for name in weights}
        self._factors = {
            name: factors(as_matrix(w, self._sides[name]), (norms or {}).get(name))
            for name, w in self._weights.items()
        }
        shapes = [as_matrix(w, self._sides[n]).shape for n, w in self._weights.items()]
        self.rank_cost = [m + n for m, n in shapes]
        self.max_rank = [(m * n) // (m + n) for m, n in shapes]
        self.numel = [m * n for m, n in shapes]
        self.total = allowance(density, sum(self.numel))
        # A matrix too small for any rank has a dial that stays at nothing.
        ranks = [max(r, 0) * c for r, c in zip(self.max_rank, self.rank_cost, strict=True)]
        self.sizes = [*self.numel, *(max(size, 1) for size in ranks)]
        self._upper = torch.tensor(
            [1.0] * len(self.numel) + [float(r > 0) for r in self.max_rank], dtype=torch.float64
        )

    def realise(self, logits: torch.Tensor) -> Choice:
        """See `Problem`."""
        share = project(logits, self.sizes, self.total / sum(self.sizes), 0.0, self._upper).detach()
        count = len(self.names)
        ranks = [int(k * r + 1e-9) for k, r in zip(share[count:], self.max_rank, strict=True)]
        left = self.total - sum(r * c for r, c in zip(ranks, self.rank_cost, strict=True))
        wanted = [float(k) * n for k, n in zip(share[:count], self.numel, strict=True)]
        return (*spread(wanted, self.numel, left), *ranks)

    def shares(self, choice: Choice) -> torch.Tensor:
        """Kept share of every dial, (2L,), float64."""
        levels = torch.tensor([*self.numel, *(max(r, 1) for r in self.max_rank)])
        return torch.tensor(choice, dtype=torch.float64) / levels

    def logits(self, choice: Choice) -> torch.Tensor:
        """See `Problem`."""
        # Nothing kept is a place to start from: one rank in ten is as small as a logit gets there.
        return logit(self.shares(choice).clamp(1e-3, 1 - 1e-3))

    def start(self, shares: Mapping[str, float], rank_share: float = 0.25) -> torch.Tensor:
        """Logits for kept shares by tensor name, of which ranks get a part (OATS: a quarter)."""
        sparse = [shares[n] * (1 - rank_share) for n in self.names]
        rank = [
            shares[n] * rank_share * size / max(r * c, 1)
            for n, size, r, c in zip(
                self.names, self.numel, self.max_rank, self.rank_cost, strict=True
            )
        ]
        return logit(torch.tensor([*sparse, *rank], dtype=torch.float64).clamp(1e-3, 1 - 1e-3))

    def room(self, choice: Choice) -> torch.Tensor:
        """See `Problem`; in numbers stored."""
        share = self.shares(choice)
        return torch.tensor(self.sizes) * share * (1 - share) * self._upper

    def parts(self, choice: Choice) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Tensor name → (S, L), matrices (out, in)."""
        found = {}
        for i, name in enumerate(self.names):
            left, right, scale = self._factors[name]
            rank = choice[len(self.names) + i]
            low = left[:, :rank] @ right[:rank]
            rest = as_matrix(self._weights[name], self._sides[name]).to(low) - low
            order = (rest * scale).abs().flatten().argsort(descending=True, stable=True)
            mask = torch.zeros(rest.numel(), dtype=torch.bool, device=rest.device)
            mask[order[: choice[i]]] = True
            found[name] = rest * mask.reshape(rest.shape), low
        return found

    def values(self, choice: Choice) -> dict[str, torch.Tensor]:
        """S + L in the shape and dtype of every weight."""
        return {
            name: from_matrix(s + low, self._weights[name].shape, self._sides[name]).to(
                self._weights[name].dtype
            )
            for name, (s, low) in self.parts(choice).items()
        }

    def loss(self, choice: Choice) -> float:
        """See `Problem`."""
        return value_of(self._loss, self.values(choice))

    def prices(self, choice: Choice) -> tuple[float, torch.Tensor]:
        r"""See `Problem`.

        A further weight of S is worth the mean of (W − L)·g near the threshold; a further rank
        σ u vᵀ is worth Σ g·σ u vᵀ over the entries that S does not hold, for it is taken out of
        those that S holds; divided by its cost. The mean of the last rank that stays and the first
        that goes counts.
        """
        value, gradients = self._loss(self.values(choice))
        sparse, ranked = [], []
        for i, (name, (s, low)) in enumerate(self.parts(choice).items()):
            weight = self._weights[name]
            g = as_matrix(gradients[name], self._sides[name]).to(low)
            left, right, scale = self._factors[name]
            rest = as_matrix(weight, self._sides[name]).to(low) - low
            sparse.append(marginal_price(rest * g, (rest * scale).abs().float(), choice[i]))
            rank = choice[len(self.names) + i]
            near = [r for r in (rank - 1, rank) if 0 <= r < self.max_rank[i]]
            open_ = g * (s == 0)
            worth = [(left[:, r] @ open_ @ right[r]).item() for r in near]
            ranked.append(sum(worth) / max(len(worth), 1) / self.rank_cost[i])
        return value, torch.tensor([*sparse, *ranked], dtype=torch.float64)


def factors(
    matrix: torch.Tensor, norms: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(U·σ, Vᵀ/D, D) with U·σ·Vᵀ the singular value decomposition of W·D; float32 or wider.

    Norms of zero (inputs that were never on) count as the smallest that is not.
    """
    wide = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    scale = torch.ones(wide.shape[1], dtype=wide.dtype, device=wide.device)
    if norms is not None and bool((norms > 0).any()):
        scale = norms.to(wide).clamp_min(norms[norms > 0].min().item())
    u, s, v = torch.linalg.svd(wide * scale, full_matrices=False)
    return u * s, v / scale, scale


def spread(wanted: list[float], capacity: list[int], total: int) -> list[int]:
    """Whole numbers near `wanted` inside their capacities, with the sum `total` where they can.

    What whole ranks left over goes where there is room; what they took comes from all alike.
    """
    have = torch.tensor(wanted, dtype=torch.float64)
    size = torch.tensor(capacity, dtype=torch.float64)
    gap = total - have.sum()
    if gap > 0:
        have = have + gap * (size - have) / (size - have).sum().clamp_min(1e-12)
    else:
        have = have * (total / have.sum().clamp_min(1e-12))
    single = Levels(
        names=tuple(map(str, range(len(capacity)))),
        whole=tuple(capacity),
        steps=(1,) * len(capacity),
        fewest=(0,) * len(capacity),
        most=tuple(capacity),
    )
    return single.nearest(have / size, total)
