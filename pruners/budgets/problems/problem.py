"""What searches and descents see of a budget: dials, exact choices, their loss and prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import torch

Choice: TypeAlias = tuple[int, ...]
"""Units kept by every dial: weights of a tensor, ranks, N of an N:M group, channels of an axis."""

Values: TypeAlias = Mapping[str, torch.Tensor]

Loss: TypeAlias = Callable[[Values], "tuple[float, Mapping[str, torch.Tensor]]"]
"""Values by name → (loss, gradient by name); `pruners.statistics.Imitation` is one. A loss with a
method `value(values)` is asked by it where no gradient is needed."""


class Problem(Protocol):
    """One budget over several dials.

    The law: every choice that `realise` returns meets the budget exactly, in whole units, whatever
    the logits, and larger logits of one dial alone never give it fewer units.
    """

    dials: tuple[str, ...]

    def realise(self, logits: torch.Tensor) -> Choice:
        """The choice on the budget that these logits (L,) stand for."""

    def logits(self, choice: Choice) -> torch.Tensor:
        """Finite logits (L,), float64, that `realise` turns into about this choice."""

    def room(self, choice: Choice) -> torch.Tensor:
        """Cost that moves with each logit, n·k(1 − k), shape (L,), float64."""

    def loss(self, choice: Choice) -> float:
        """Loss with the exact masks; forward passes only."""

    def prices(self, choice: Choice) -> tuple[float, torch.Tensor]:
        """Loss, and for each dial its change for one more unit of cost, (L,), float64."""


def value_of(loss: Loss, values: Values) -> float:
    """The loss alone, without a backward pass where the loss can do without."""
    alone = getattr(loss, "value", None)
    return float(alone(values)) if alone is not None else loss(values)[0]


def finite(value: float, where: str) -> float:
    """The value, unless it is no number or infinite.

    Raises:
        ValueError: it is; `where` says at which step.
    """
    if value != value or abs(value) == float("inf"):
        raise ValueError(f"the loss is not finite at {where} (got {value}); is the model finite?")
    return value


LOGIT_MARGIN = 1e-6
"""A share this close to 0 or 1 is as good as the bound, and its logit is still finite."""


def logit(
    share: torch.Tensor, lower: float | torch.Tensor = 0.0, upper: float | torch.Tensor = 1.0
) -> torch.Tensor:
    """Finite logit of shares inside their bounds: what `project` starts from; float64."""
    share = torch.as_tensor(share, dtype=torch.float64)
    span = torch.as_tensor(upper - lower, dtype=torch.float64).clamp_min(1e-12)
    return torch.logit(((share - lower) / span).clamp(LOGIT_MARGIN, 1 - LOGIT_MARGIN))
