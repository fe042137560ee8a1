"""Second-order scores of units: what the layers that read them lose after a refit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import torch

from graphs.axes.dims import atoms, unit_index
from pruners.recovery.refit import consumers, intercept_of
from pruners.recovery.regression import DAMPING, Regression
from pruners.solvers.matrix import as_matrix, rows_of

if TYPE_CHECKING:
    from graphs import Network

ROUNDS = 16


def second_order_scores(
    net: Network,
    moments: Mapping[str, Regression],
    axes: Iterable[str] | None = None,
    *,
    rounds: int = ROUNDS,
    damping: float = DAMPING,
    gradient: bool = False,
) -> dict[str, torch.Tensor]:
    r"""Error that a unit's removal adds at the time it goes, summed over all that read it.

        s(u) = Σ_consumers tr(W_u ([H⁻¹]_uu)⁻¹ W_uᵀ) / tr(W H Wᵀ)

    with H the covariance of the consumer's inputs (second moments where nothing takes an
    intercept) and u all columns of the unit: kernel taps, features of a head. Units of an axis go
    greedily, the cheapest first; after every round the rest is refitted and H⁻¹ downdated:

        W ← W − W_P ([H⁻¹]_PP)⁻¹ [H⁻¹]_P:      H⁻¹ ← H⁻¹ − [H⁻¹]_:P ([H⁻¹]_PP)⁻¹ [H⁻¹]_P:

    Kurtic et al. 2023 (ZipLM, eqs. 3 and 4; there for one consumer and one unit at a time). Errors
    are relative to the consumer's output energy, so that one threshold can cut all axes.

    Args:
        net: the dense network.
        moments: of `pruners.recovery.refit.input_moments`.
        axes: names; None for all that are free and read by a weight with moments.
        rounds: in which an axis is emptied; its size for one unit at a time.
        damping: share of the variance of every input that is added to it.
        gradient: add Týr-the-Pruner's first-order term (Li et al. 2025), W_u·(H W)_u to half of the
            second-order one, which keeps units whose outputs agree with those of the others.

    Returns:
        Axis name → scores (size,), float64, never falling in the order of removal: for
        `pruners.units.select`. Axes without measured consumers are missing.
    """
    wanted = [n for n, a in net.axes.items() if a.frozen is None] if axes is None else list(axes)
    free = {name: torch.empty(0, dtype=torch.int64) for name in wanted}
    found: dict[str, list[Consumer]] = {name: [] for name in wanted}
    for name, side in consumers(net, free).items():
        if side < 0 or name not in moments:
            continue
        tensor = net.tensors[name]
        sums = moments[name].double()
        matrix = as_matrix(tensor.value.detach(), rows_of(net, name)).to(sums.xx)
        matrix = matrix.unflatten(0, (len(sums.xx), -1))
        if intercept_of(net, name, tensor) is None:
            sums = sums.about_zero()
        taps = matrix.shape[2] // tensor.value.shape[side]
        for axis in set(atoms(tensor.dims[side])).intersection(wanted):
            unit = unit_index(tensor.dims[side], axis, net.axes).repeat(taps)
            found[axis].append(Consumer.of(matrix, sums.xx, unit, damping, gradient))
    return {
        axis: greedy(readers, net.axes[axis].size, rounds)[0]
        for axis, readers in found.items()
        if readers
    }


@dataclass
class Consumer:
    """One weight, as units leave it.

    Rows may be combined by any F: errors are then those of tr(F ΔW H ΔWᵀ Fᵀ).

    Args:
        weight: (groups, out, in), refitted so far.
        inverse: H⁻¹ of what is left, (groups, in, in).
        product: H Wᵀ of the dense weight, (groups, in, out), or None.
        columns: of every unit, (units, columns of one).
        energy: tr(W H Wᵀ) of the dense weight.
    """

    weight: torch.Tensor
    inverse: torch.Tensor
    product: torch.Tensor | None
    columns: torch.Tensor
    energy: float

    @classmethod
    def of(
        cls,
        weight: torch.Tensor,
        hessian: torch.Tensor,
        unit: torch.Tensor,
        damping: float,
        gradient: bool,
    ) -> Consumer:
        """Before anything is removed; `unit` names the unit of every column, −1 for none."""
        product = hessian @ weight.mT
        energy = (weight * product.mT).sum().item()
        size = int(unit.max()) + 1
        order = unit.argsort(stable=True)[int((unit < 0).sum()) :]
        return cls(
            weight.clone(),
            inverted(hessian, damping),
            product if gradient else None,
            order.reshape(size, -1).to(weight.device),
            max(energy, torch.finfo(torch.float64).tiny),
        )

    def scores(self, left: torch.Tensor) -> torch.Tensor:
        """Share of the energy that each of these units costs, (units,)."""
        columns = self.columns[left]  # (units, p)
        w = self.weight[:, :, columns].movedim(2, 1)  # (groups, units, out, p)
        block = self.inverse[:, columns[:, :, None], columns[:, None]]  # (groups, units, p, p)
        solved = torch.linalg.solve(block, w.mT)  # (groups, units, p, out)
        cost = (w.mT * solved).sum((0, 2, 3))
        if self.product is not None:
            first = (w.mT * self.product[:, columns]).sum((0, 2, 3))
            cost = cost / 2 + first
        return cost / self.energy

    def remove(self, units: torch.Tensor) -> None:
        """Take units out, refit the rest, and downdate."""
        gone = self.columns[units].flatten()
        rows = self.inverse[:, gone]  # (groups, m, in)
        step = torch.linalg.solve(rows[:, :, gone], rows)
        self.weight -= self.weight[:, :, gone] @ step
        self.inverse -= rows.mT @ step
        self.weight[:, :, gone] = 0
        # Columns that are gone stay out of what is left, whatever rounding did.
        self.inverse[:, gone] = 0
        self.inverse[:, :, gone] = 0


def inverted(hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """(H + λ diag H)⁻¹, (groups, in, in); inputs without variance count as independent, of 1."""
    factor, scale = factored(hessian, damping)
    return torch.cholesky_inverse(factor) / scale[:, :, None] / scale[:, None]


def factored(hessian: torch.Tensor, damping: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Cholesky factor of H + λ diag H, in units in which every input has variance 1, and the units.

    Inputs without variance count as independent, of 1.

    Args:
        hessian: H, (groups, in, in), float64.
        damping: λ, ten times more until the matrix is positive definite.

    Returns:
        L, (groups, in, in), lower, and the standard deviations, (groups, in).

    Raises:
        ValueError: second moments that no sensible damping makes positive definite.
    """
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    dead = diagonal <= 0
    scale = torch.where(dead, 1.0, diagonal).sqrt()
    correlation = hessian / scale[:, :, None] / scale[:, None]
    for amount in (damping, *(max(damping, 1e-12) * 10**i for i in range(1, 10))):
        correlation.diagonal(dim1=1, dim2=2).copy_(1.0 + amount * (~dead).to(scale))
        factor, failed = torch.linalg.cholesky_ex(correlation)
        if not failed.any():
            return factor, scale
    raise ValueError(
        f"the inputs' second moments are not positive definite even when damped by {amount:g} of "
        "their diagonal; collect them again, from more or saner calibration data"
    )


def greedy(
    readers: list[Consumer], size: int, rounds: int = ROUNDS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Take the units of an axis out, those that cost least first; changes the readers.

    Args:
        readers: of the axis.
        size: units of it.
        rounds: in which it is emptied.

    Returns:
        Cost of every unit at the time it goes, (size,), float64, and the units in the order in
        which they go, (size,), int64.
    """
    result = torch.zeros(size, dtype=torch.float64)
    left, order = torch.arange(size), []
    step = max(1, ceil(size / rounds))
    reached = -torch.inf
    while left.numel():
        costs = torch.stack([reader.scores(left).cpu() for reader in readers]).sum(0)
        cheapest = costs.argsort(stable=True)[:step]
        # What is cheap only because others went before it does not go before them.
        values = costs[cheapest].clamp_min(reached)
        gone = left[cheapest]
        result[gone] = values
        order.append(gone)
        reached = values.max().item()
        left = left[~torch.isin(left, gone)]
        if left.numel():
            for reader in readers:
                reader.remove(gone)
    return result, torch.cat(order) if order else left
