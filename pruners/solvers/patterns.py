"""Patterns of zeros, and the exact top-k that every solver chooses its mask with."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Pattern:
    """Where zeros may fall in a weight matrix of shape (out, in).

    "unstructured": anywhere; "row": the same number in every row; "N:M": in every row, at most N
    of each M consecutive columns stay.

    Args:
        name: the pattern as written.
        n: columns that stay of each group, for N:M.
        m: columns in a group, for N:M.
    """

    name: str
    n: int = 0
    m: int = 0

    @classmethod
    def parse(cls, text: str | Pattern) -> Pattern:
        """Read "unstructured", "row" or "N:M".

        Raises:
            ValueError: anything else.
        """
        if isinstance(text, Pattern):
            return text
        if text in ("unstructured", "row"):
            return cls(text)
        found = re.fullmatch(r"(\d+):(\d+)", text)
        if found is None or not 0 < int(found[1]) <= int(found[2]):
            raise ValueError(
                f'unknown pattern "{text}": expected "unstructured", "row", or "N:M" with '
                '0 < N <= M such as "2:4" (2 of 4 stay)'
            )
        return cls(text, int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return self.name

    def refusal(self, columns: int) -> str | None:
        """Why a matrix with this many columns cannot carry the pattern, or None."""
        if self.m and columns % self.m:
            return (
                f"{columns} input columns are not a multiple of {self.m}, which {self.name} "
                "needs; leave this weight out"
            )
        return None

    def density(self, asked: float | None) -> float:
        """The kept share: what is asked, or N / M, which leaves no choice.

        Raises:
            ValueError: no density where one is needed, one outside 0 to 1, or one against N:M.
        """
        if self.m:
            if asked is not None and abs(asked - self.n / self.m) > 1e-6:
                raise ValueError(
                    f"pattern {self.name} keeps {self.n / self.m:.6g} of the weights, not the "
                    f"asked {asked:.6g}; leave the density out or ask for another pattern"
                )
            return self.n / self.m
        if asked is None or not 0 <= asked <= 1:
            raise ValueError(f"density is the share of weights that stays, 0 to 1 (got {asked})")
        return asked

    def at(self, density: float) -> Pattern:
        """The pattern of one tensor where tensors differ: for N:M the N nearest to its share."""
        if self.m == 0:
            return self
        n = round(density * self.m)
        return self if n == self.n else Pattern.parse(f"{n}:{self.m}")

    def top(self, scores: torch.Tensor, density: float | None) -> torch.Tensor:
        """Mask of the highest scores that the pattern and the density allow, exact in number.

        Args:
            scores: shape (out, in), not NaN.
            density: kept share; the number is rounded to a whole weight (in each row for "row").
                None for N:M.

        Returns:
            bool mask (out, in). Equal scores are kept in order of position.

        Raises:
            ValueError: columns that do not divide into groups of M, or a density out of place.
        """
        refusal = self.refusal(scores.shape[1])
        if refusal is not None:
            raise ValueError(refusal)
        share = self.density(density)
        if self.m:
            return top_k(scores.reshape(-1, self.m), self.n).reshape(scores.shape)
        rows = scores if self.name == "row" else scores.reshape(1, -1)
        return top_k(rows, round(share * rows.shape[1])).reshape(scores.shape)


# Up to this many candidates, comparing all pairs beats selecting.
FEW = 16


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
        return top_few(scores.T.contiguous(), k).T.contiguous()
    threshold = scores.kthvalue(columns - k + 1, dim=1, keepdim=True).values
    above, tied = scores > threshold, scores == threshold
    room = k - above.sum(1, keepdim=True)
    return above | (tied & (tied.cumsum(1) <= room))


def top_few(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Mask of the k largest entries of every column, by comparing all pairs of rows.

    Args:
        scores: shape (candidates, lines), few candidates, not NaN.
        k: entries kept in each column.

    Returns:
        bool, shape (candidates, lines); ties go to the first candidate.
    """
    candidates = scores.unbind()
    last = len(candidates) - 1
    # beaten_by[i] starts at the number of later candidates and loses one for each it wins against.
    start = torch.arange(last, -1, -1, dtype=torch.int8, device=scores.device)
    beaten_by = start[:, None].repeat(1, scores.shape[1])
    counts = beaten_by.unbind()
    for i, first in enumerate(candidates):
        for j in range(i + 1, last + 1):
            wins = (first >= candidates[j]).view(torch.int8)
            counts[i].sub_(wins)
            counts[j].add_(wins)
    return beaten_by < k
