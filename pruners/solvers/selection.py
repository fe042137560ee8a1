"""Exact selection of the largest, ties to the first: what every solver chooses its mask with."""

from __future__ import annotations

from collections.abc import Callable

import torch

# Up to this many candidates, comparing all pairs beats selecting.
FEW = 16
# Comparisons made at a time: they fit the cache.
COMPARISONS = 1 << 15


def top_k(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Mask of the k largest entries of every row; ties go to the first position.

    Args:
        scores: shape (rows, columns), not NaN.
        k: entries kept in each row, 0 to columns.

    Returns:
        bool, shape (rows, columns), exactly k true in each row.

    Raises:
        ValueError: scores with NaN.
    """
    if scores.isnan().any():
        raise ValueError("scores are not numbers (got NaN); is the weight finite?")
    rows, columns = scores.shape
    if k <= 0 or k >= columns:
        return torch.full_like(scores, k > 0, dtype=torch.bool)
    if columns <= FEW < rows:
        return AllPairs(columns, scores.device).top(scores.T.contiguous(), k).T.contiguous()
    threshold = scores.kthvalue(columns - k + 1, dim=1, keepdim=True).values
    reached = scores >= threshold
    if int(reached.count_nonzero()) == rows * k:
        return reached
    above, tied = scores > threshold, scores == threshold
    room = k - above.sum(1, keepdim=True)
    return above | (tied & (tied.cumsum(1) <= room))


def top_of_columns(
    candidates: int, device: torch.device
) -> Callable[[torch.Tensor, int], torch.Tensor]:
    """`top_k` over columns instead of rows, made once for many calls.

    Args:
        candidates: how many compete in a column.
        device: of the scores.

    Returns:
        (scores (candidates, lines), not NaN; k) → bool mask of the same shape.
    """
    if candidates <= FEW:
        return AllPairs(candidates, device).top
    return lambda scores, k: top_k(scores.T.contiguous(), k).T


class AllPairs:
    """Top-k of few candidates in many lines, by comparing every two candidates.

    Comparisons are counted by one product with the incidence matrix of the pairs, in four
    operations whatever the number of candidates.

    Args:
        candidates: how many compete in a line.
        device: of the scores.
    """

    def __init__(self, candidates: int, device: torch.device) -> None:
        pairs = torch.triu_indices(candidates, candidates, 1, device=device)  # (2, pairs): i < j
        self._count = pairs.shape[1]
        self._pairs = pairs.flatten()
        # Before any comparison, a candidate is beaten by all later ones.
        self._start = torch.arange(candidates - 1, -1, -1.0, device=device)[:, None]
        earlier, later = torch.zeros(2, candidates, self._count, device=device)
        # Where i is at least as large as j, one fewer beats i and one more beats j.
        self._change = later.scatter_(0, pairs[1:], 1.0) - earlier.scatter_(0, pairs[:1], 1.0)

    def top(self, scores: torch.Tensor, k: int) -> torch.Tensor:
        """Mask of the k largest entries of every column.

        Args:
            scores: shape (candidates, lines), not NaN.
            k: entries kept in each column.

        Returns:
            bool, shape (candidates, lines); ties go to the first candidate.
        """
        step = max(256, COMPARISONS // max(1, self._count))
        if scores.shape[1] <= step:
            return self._beaten_by(scores) < k
        return torch.cat([self._beaten_by(part) < k for part in scores.split(step, 1)], 1)

    def _beaten_by(self, scores: torch.Tensor) -> torch.Tensor:
        both = scores.index_select(0, self._pairs)
        first, second = both[: self._count], both[self._count :]
        wins = torch.ge(first, second, out=torch.empty_like(first, dtype=torch.float32))
        return torch.addmm(self._start, self._change, wins)
