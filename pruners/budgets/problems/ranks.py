"""The budget of ranks: one dial a matrix, under every limit of the target at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from pruners.budgets.problems.limits import Limit
from pruners.budgets.problems.problem import Choice, Loss, logit, value_of
from pruners.budgets.problems.spectrum import Spectrum

HALVINGS = 100
"""Enough for the bracket of any float64 to close."""


class RankProblem:
    """How many ranks every matrix keeps; the level above the last rank is the dense matrix.

    The law: what `cut` and `realise` return is within every limit, and no dial could go up one
    level more.

    Args:
        spectra: weight name → its approximations.
        limits: of the target.
        loss: values → (loss, gradients); None where nothing is measured.
    """

    def __init__(
        self, spectra: Mapping[str, Spectrum], limits: Sequence[Limit], loss: Loss | None = None
    ) -> None:
        self.dials = tuple(spectra)
        self.spectra = dict(spectra)
        self.limits = list(limits)
        self._loss = loss
        listed = list(spectra.values())
        self.most = torch.tensor([s.most for s in listed], dtype=torch.float64)
        self.step = torch.tensor([s.step for s in listed], dtype=torch.float64)
        self.sizes = torch.tensor([s.weight.numel() for s in listed], dtype=torch.float64)
        # The limit that binds first when all matrices shrink alike sets what a number costs.
        self.cost = min(limits, key=lambda x: x.room / max(float(x.cost @ self.sizes), 1e-30)).cost

    def with_loss(self, loss: Loss) -> RankProblem:
        """The same problem, judged by a loss: values → (loss, gradients)."""
        return RankProblem(self.spectra, self.limits, loss)

    def stored(self, levels: torch.Tensor) -> torch.Tensor:
        """Numbers stored by every matrix, (L,), float64."""
        return torch.where(levels > self.most, self.sizes, levels * self.step)

    def fits(self, levels: torch.Tensor) -> bool:
        """Whether all limits hold."""
        stored = self.stored(levels)
        return all(limit.holds(stored) for limit in self.limits)

    def cut(
        self,
        at: Callable[[float], torch.Tensor],
        low: float,
        high: float,
        free: torch.Tensor | None = None,
        order: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> Choice:
        """The highest levels on a rising path that fit, then single levels while any fits.

        Args:
            at: place on the path → levels, (L,), not rounded; rising with the place.
            low, high: ends of the path; the low one must fit.
            free: which dials take the single levels, (L,), bool; default all.
            order: (whole levels) → who goes first, largest first; default what rounding took.

        Raises:
            ValueError: even the low end of the path is over a limit.
        """
        if not self.fits(self._whole(at(low))):
            raise ValueError(
                "the ranks that are given already cost more than the target allows; give smaller "
                "ones, or another target"
            )
        if not self.fits(self._whole(at(high))):
            for _ in range(HALVINGS):
                middle = 0.5 * (low + high)
                low, high = (middle, high) if self.fits(self._whole(at(middle))) else (low, middle)
            path = at(low)
        else:
            path = at(high)
        levels = self._whole(path)
        open_ = torch.ones_like(levels, dtype=torch.bool) if free is None else free.clone()
        while True:
            first = path - levels if order is None else order(levels)
            first = first.masked_fill(~open_ | (levels > self.most), -torch.inf)
            best = int(first.argmax())
            if first[best] == -torch.inf:
                return tuple(int(level) for level in levels)
            levels[best] += 1
            if not self.fits(levels):
                levels[best] -= 1
                open_[best] = False

    def _whole(self, levels: torch.Tensor) -> torch.Tensor:
        return torch.minimum((levels + 1e-9).floor().clamp_min(1), self.most + 1)

    def realise(self, logits: torch.Tensor) -> Choice:
        """See `Problem`."""
        theta = logits.detach().double()
        reach = float(theta.abs().max()) + 40.0

        def at(shift: float) -> torch.Tensor:
            return 1 + (self.most + 0.5) * torch.sigmoid(theta + shift)

        return self.cut(at, -reach, reach)

    def logits(self, choice: Choice) -> torch.Tensor:
        """See `Problem`."""
        levels = torch.tensor(choice, dtype=torch.float64)
        return logit((levels - 0.5) / (self.most + 0.5))

    def room(self, choice: Choice) -> torch.Tensor:
        """See `Problem`; in the cost of the limit that binds first."""
        share = torch.tensor(choice, dtype=torch.float64) / (self.most + 1)
        return self.cost * self.sizes * share * (1 - share)

    def values(self, choice: Choice) -> dict[str, torch.Tensor]:
        """The weights at these levels, each in its shape and dtype."""
        return {
            name: self.spectra[name].value(level)
            for name, level in zip(self.dials, choice, strict=True)
        }

    def loss(self, choice: Choice) -> float:
        """See `Problem`."""
        assert self._loss is not None
        return value_of(self._loss, self.values(choice))

    def prices(self, choice: Choice) -> tuple[float, torch.Tensor]:
        """See `Problem`: the mean of the last level that stays and the first that goes."""
        assert self._loss is not None
        value, gradients = self._loss(self.values(choice))
        found = []
        for i, (name, level) in enumerate(zip(self.dials, choice, strict=True)):
            spectrum = self.spectra[name]
            near = [k for k in (level - 1, level) if 0 <= k <= spectrum.most]
            gain = sum(spectrum.gain(gradients[name], k) for k in near)
            numbers = spectrum.stored(near[-1] + 1) - spectrum.stored(near[0])
            found.append(gain / max(numbers * float(self.cost[i]), 1e-30))
        return value, torch.tensor(found, dtype=torch.float64)

    def ranks(self, choice: Choice) -> dict[str, int]:
        """Weight name → rank, for the weights that do not stay dense."""
        return {
            name: level
            for name, level in zip(self.dials, choice, strict=True)
            if level <= self.spectra[name].most
        }
