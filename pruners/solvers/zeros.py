"""Patterns of masks: where zeros may fall in a weight matrix, and in which units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import gcd

import torch

from pruners.solvers.selection import top_k

# A threshold over so many entries may be read off every seventeenth of them.
MANY, STRIDE = 1 << 17, 17


@dataclass(frozen=True)
class MaskPattern:
    """Where zeros may fall in a weight matrix of shape (out, in).

    | name | what stays or goes |
    |---|---|
    | "unstructured" | single weights, anywhere |
    | "row" | single weights, the same number in every row |
    | "N:M" | in every row, N of each M consecutive columns stay |
    | "column", "column:C" | whole columns (input channels), or C consecutive ones (a head) |
    | "block:RxC" | blocks of R rows and C columns, anywhere |

    Args:
        name: the pattern as written.
        n: columns that stay of each group, for N:M.
        m: columns in a group, for N:M.
        block: rows and columns that stay or go together; 0 rows are all rows.
    """

    name: str
    n: int = 0
    m: int = 0
    block: tuple[int, int] = (1, 1)

    @classmethod
    def parse(cls, text: str | MaskPattern) -> MaskPattern:
        """Read "unstructured", "row", "N:M", "column", "column:C" or "block:RxC".

        Raises:
            ValueError: anything else.
        """
        if isinstance(text, MaskPattern):
            return text
        if text in ("unstructured", "row"):
            return cls(text)
        if found := re.fullmatch(r"column(?::([1-9]\d*))?", text):
            return cls(text, block=(0, int(found[1] or 1)))
        if found := re.fullmatch(r"block:([1-9]\d*)x([1-9]\d*)", text):
            return cls(text, block=(int(found[1]), int(found[2])))
        found = re.fullmatch(r"(\d+):(\d+)", text)
        if found is None or not 0 < int(found[1]) <= int(found[2]):
            raise ValueError(
                f'unknown pattern "{text}": expected "unstructured", "row", "column", "column:64", '
                '"block:4x4", or "N:M" with 0 < N <= M such as "2:4" (2 of 4 stay)'
            )
        return cls(text, int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return self.name

    def refusal(self, rows: int, columns: int) -> str | None:
        """Why a matrix of this size cannot carry the pattern, or None."""
        width, height = self.m or self.block[1], self.block[0] or 1
        if columns % width:
            return f"{columns} input columns are not a multiple of {width}, which {self} needs"
        if rows % height:
            return f"{rows} output rows are not a multiple of {height}, which {self} needs"
        return None

    def insist(self, rows: int, columns: int) -> None:
        """Refuse a matrix that the pattern does not divide.

        Raises:
            ValueError: says why.
        """
        if (reason := self.refusal(rows, columns)) is not None:
            raise ValueError(f"{reason}; leave this weight out")

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

    def at(self, density: float) -> MaskPattern:
        """The pattern of one tensor where tensors differ: for N:M the N nearest to its share."""
        if self.m == 0:
            return self
        n = round(density * self.m)
        return self if n == self.n else MaskPattern.parse(f"{n}:{self.m}")

    def levels(self, rows: int, columns: int) -> int:
        """Equal steps into which the kept share of a matrix divides: how many units compete.

        A step costs rows · columns / levels numbers: one for "unstructured", one of every row for
        "row", one of every group for N:M, a block or some whole columns for the others.
        """
        if self.m:
            return self.m
        if self.name == "row":
            return columns
        height, width = self.block
        return (rows // height if height else 1) * (columns // width)

    @property
    def least(self) -> int:
        """Fewest levels that stay: N:M keeps one of every group, the others may keep nothing."""
        return 1 if self.m else 0

    def choose(self, scores: torch.Tensor, count: int) -> torch.Tensor:
        """Mask of the `count` highest units wherever units compete.

        Args:
            scores: shape (out, in), not NaN, at least 0; the score of a block is the sum of squares
                of its entries, so scores should be roots of what a weight is worth.
            count: units that stay: of the matrix, of every row ("row"), of every group (N:M).

        Returns:
            bool mask (out, in). Equal scores are kept in order of position.
        """
        rows, columns = scores.shape
        if self.block == (1, 1):
            lines = scores.reshape(-1, self.levels(rows, columns))
            return top_k(lines, count).reshape(scores.shape)
        worth = self.units(scores.square())
        kept = top_k(worth.reshape(1, -1), count).reshape(worth.shape)
        return self.spread(kept, rows)

    def units(self, entries: torch.Tensor) -> torch.Tensor:
        """Sums over blocks or columns: (out, in) → (blocks along out, blocks along in)."""
        rows, columns = entries.shape
        height, width = self.block[0] or rows, self.block[1]
        return entries.reshape(rows // height, height, columns // width, width).sum((1, 3))

    def spread(self, units: torch.Tensor, rows: int) -> torch.Tensor:
        """What belongs to blocks or columns, at each of their entries: the inverse of `units`.

        Args:
            units: (blocks along out, blocks along in).
            rows: of the matrix.
        """
        height, width = self.block[0] or rows, self.block[1]
        return units.repeat_interleave(height, 0).repeat_interleave(width, 1)

    def top(self, scores: torch.Tensor, density: float | None) -> torch.Tensor:
        """Mask of the highest scores that the pattern and the density allow, exact in number.

        Args:
            scores: shape (out, in), not NaN.
            density: kept share; the number is rounded to a whole weight (in each row for "row") or
                block. None for N:M.

        Returns:
            bool mask (out, in). Equal scores are kept in order of position.

        Raises:
            ValueError: a matrix that does not divide into groups or blocks, or a density out of
                place.
        """
        rows, columns = scores.shape
        self.insist(rows, columns)
        return self.choose(scores, round(self.density(density) * self.levels(rows, columns)))

    def nearly_top(self, scores: torch.Tensor, density: float) -> torch.Tensor:
        """`top`, but one threshold over many entries is read off a sample of them.

        For masks on the way, whose number of entries need not be exact.
        """
        if self.name != "unstructured" or scores.numel() < MANY:
            return self.top(scores, density)
        stride = STRIDE
        while gcd(stride, scores.shape[1]) > 1:  # a sample that visits every column
            stride += 1
        sample = scores.reshape(-1)[::stride].contiguous()
        position = min(sample.numel(), max(1, sample.numel() - round(density * sample.numel()) + 1))
        return scores >= sample.kthvalue(position).values
