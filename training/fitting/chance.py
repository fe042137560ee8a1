"""What chance could do to figures: draws of the examples with replacement (Efron 1979).

A figure is a function of the mean over examples: Σ sums / Σ counts of (N, 2) outcomes, such as
right answers by answers, or nats by tokens. Networks that were measured on the same examples are
drawn together, so that what is hard for all of them is nobody's fault.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DRAWS = 1000
SURE = 0.95
"""Of the draws, how many must agree."""


def drawn_means(outcomes: Sequence[Tensor], draws: int = DRAWS, seed: int = 0) -> Tensor:
    """Means of every network in every draw, (draws, networks), float64.

    Args:
        outcomes: (N, 2) of every network, of the same examples in the same order.
        draws: how many.
        seed: of the draws.

    Raises:
        ValueError: outcomes of different numbers of examples, or of none.
    """
    count = len(outcomes[0]) if outcomes else 0
    if not count or any(one.shape != (count, 2) for one in outcomes):
        shapes = ", ".join(str(tuple(one.shape)) for one in outcomes)
        raise ValueError(f"outcomes are (N, 2) of the same N examples, at least one (got {shapes})")
    together = torch.stack([one.double() for one in outcomes], -1).flatten(1)  # (N, 2 · networks)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(draws):
        times = torch.bincount(torch.randint(count, (count,), generator=generator), minlength=count)
        sums, counts = (times.double() @ together).reshape(2, len(outcomes))
        found.append(sums / counts)
    return torch.stack(found)


def interval(means: Tensor) -> tuple[float, float]:
    """The middle 95 % of a network's means.

    Args:
        means: (draws,).
    """
    edges = torch.tensor([(1 - SURE) / 2, (1 + SURE) / 2], dtype=means.dtype)
    low, high = torch.quantile(means, edges).tolist()
    return low, high


def behind(one: Tensor, other: Tensor, *, higher_is_better: bool) -> bool:
    """Whether a network is worse than another by more than chance.

    Args:
        one, other: (draws,) of the same draws.
        higher_is_better: direction of the mean.
    """
    lead = other - one if higher_is_better else one - other
    return interval(lead)[0] > 0
