r"""Units dealt into groups of M, so that every group can spare M − N of them.

The loss of an order is Σ over rows and groups of the importance of the least M − N columns of the
group. From a deal by rank, pairs of groups swap two units wherever the loss falls (a local search
after Pool & Yu 2021, "Channel Permutations for N:M Sparsity"), all pairs of a matching at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

ROUNDS = 50
"""Matchings of groups that are tried."""


def dealt(importances: Sequence[torch.Tensor], n: int, m: int, seed: int = 0) -> torch.Tensor:
    """An order of units that loses less, no more than the order they are in.

    Args:
        importances: of weights that read the units, each (rows, units); units a multiple of m.
        n: that stay of each group.
        m: units of a group.
        seed: of the matchings.

    Returns:
        int64 (units,): unit `order[i]` comes to place i.
    """
    worth = torch.cat(list(importances))
    units = worth.shape[1]
    draw = torch.Generator().manual_seed(seed)
    starts = torch.arange(units, device=worth.device), _by_rank(worth, m)
    order = min(starts, key=lambda o: float(_lost(worth[:, o].unflatten(1, (-1, m)), n).sum()))
    groups = order.view(-1, m).clone()
    if len(groups) < 2:
        return order
    for _ in range(ROUNDS):
        matched = torch.randperm(len(groups), generator=draw)[: len(groups) // 2 * 2].view(2, -1)
        groups = _swapped(worth, groups, matched.to(groups.device), n)
    return groups.flatten()


def _by_rank(worth: torch.Tensor, m: int) -> torch.Tensor:
    """Units sorted by their whole importance and dealt, one of each quarter to a group of four."""
    ranked = worth.sum(0).argsort(descending=True, stable=True)
    return ranked.view(m, -1).T.flatten()


def _lost(groups: torch.Tensor, n: int) -> torch.Tensor:
    """(rows, ..., M) → what goes of each, summed over rows."""
    return groups.topk(groups.shape[-1] - n, dim=-1, largest=False)[0].sum((0, -1))


def _swapped(
    worth: torch.Tensor, groups: torch.Tensor, matched: torch.Tensor, n: int
) -> torch.Tensor:
    """The groups after the best swap of each pair, where one helps.

    Args:
        worth: (rows, units).
        groups: (groups, m), the units of each.
        matched: (2, pairs), groups that swap with each other.
        n: units that stay of each group.
    """
    m = groups.shape[1]
    first, second = groups[matched[0]], groups[matched[1]]  # (pairs, m)
    best = _lost(worth[:, first], n) + _lost(worth[:, second], n)
    found = torch.stack([first, second])
    for i in range(m):
        for j in range(m):
            one, other = first.clone(), second.clone()
            one[:, i], other[:, j] = second[:, j], first[:, i]
            lost = _lost(worth[:, one], n) + _lost(worth[:, other], n)
            better = lost < best
            best = torch.where(better, lost, best)
            found = torch.where(better[:, None], torch.stack([one, other]), found)
    groups = groups.clone()
    groups[matched[0]], groups[matched[1]] = found[0], found[1]
    return groups
