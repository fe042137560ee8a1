"""How to prune a checkpoint block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from metaprune.patterns import parse
from metaprune.patterns.masks import Masks
from pruners import Target, solvers
from pruners.curves.masks import HELD
from pruners.solvers import DEFAULT, MaskPattern
from training.config import check_positive
from training.recovery.blocks import BlockDescent

BUDGETS = ("expected-loss", "uniform")
"""Rules that need no more than one block at a time."""


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """Settings of `metaprune.stream`; an immutable value.

    Args:
        pattern: of masks: "unstructured", "2:4", "row", "column", "block:RxC".
        target: `{"sparsity": 0.5}` of the weights inside blocks that take masks; None for N:M.
        budget: "expected-loss" or "uniform"; None for the first where the pattern leaves a choice.
        solver: of `pruners.solvers`; reads inputs, no gradients of weights.
        sides: 2 for errors of outputs as the predictions feel them, 1 for the layer's own outputs.
        imitate: options of steps on every block after the solver
            (`training.recovery.blocks.BlockDescent`); None takes none.
        ignore: names or glob patterns of modules or parameters, or names of classes, that stay
            dense.
        batch_size: examples that go through a block together.
        activations: inside a block, of all batches: "recomputed" for each layer, so that those of
            one batch live at a time, or "kept", which is quicker; the result is the same.
        dtype: in which blocks compute; results keep the dtype of the checkpoint.
        seed: of the draws.

    Raises:
        ValueError: a setting that makes no sense.
    """

    pattern: str = "unstructured"
    target: Mapping[str, Any] | None = None
    budget: str | None = None
    solver: str = DEFAULT
    sides: int = 2
    imitate: BlockDescent | None = None
    ignore: Sequence[str] = ()
    batch_size: int = 8
    activations: Literal["recomputed", "kept"] = "recomputed"
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive(self, "batch_size")
        found = parse(self.pattern)
        if not isinstance(found, Masks):
            raise ValueError(
                f'stream prunes by masks (got pattern "{self.pattern}"); choose among '
                f"{', '.join(Masks.forms)}, or prune with metaprune.prune where the model fits"
            )
        if found.chooses and self.target is not None:
            _ = self.share
        if not found.chooses and self.target is not None:
            raise ValueError(f'pattern "{self.pattern}" leaves no choice; leave the target out')
        if self.budget not in (None, *BUDGETS):
            raise ValueError(f"stream divides by {' or '.join(BUDGETS)} (got {self.budget!r})")
        if self.sides not in (1, 2):
            raise ValueError(f"sides is 1 or 2 (got {self.sides})")
        dtype = getattr(torch, self.dtype, None)
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise ValueError(
                f"dtype names a floating dtype of torch, such as float32 (got {self.dtype!r})"
            )
        if extra := sorted(solvers.build(self.solver).needs - HELD):
            raise ValueError(
                f'solver "{self.solver}" reads {", ".join(extra)}, which no single block has; '
                "choose admm, sparsegpt, wanda or magnitude"
            )

    @property
    def mask(self) -> MaskPattern:
        """Where zeros may fall."""
        return MaskPattern.parse(self.pattern)

    @property
    def share(self) -> float:
        """Of the weights that take masks, what stays.

        Raises:
            ValueError: the pattern leaves a choice, and no sparsity is given.
        """
        if self.mask.m:
            return self.mask.n / self.mask.m
        if self.target is None or set(self.target) != {"sparsity"}:
            raise ValueError(
                f'pattern "{self.pattern}" takes target {{"sparsity": 0.5}} (got {self.target}); '
                "2:4 takes none"
            )
        return 1 - float(Target.parse(self.target).asked["sparsity"])

    @property
    def rule(self) -> str:
        """The budget, with the default where none is named."""
        return self.budget or ("uniform" if self.mask.m else "expected-loss")

    @property
    def curved(self) -> bool:
        """Whether the curvature of the predictions is needed."""
        return self.sides == 2 or self.rule == "expected-loss"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)
