"""What is measured for triples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pruners.solvers import solvers_for
from training.config import check_positive


def _targets() -> list[dict[str, Any]]:
    return [
        {"pattern": "channels", "macs": "50%"},
        {"pattern": "channels", "macs": "30%"},
        {"pattern": "unstructured", "sparsity": 0.8},
    ]


@dataclass(frozen=True)
class TriplesConfig:
    """Which networks, targets and budgets, and what they are judged by.

    Args:
        folder: where a folder for every case goes.
        zoos: folders that `build_zoo` wrote; members of both parts are measured.
        targets: mappings {pattern, and what is asked}: "channels" with any target of
            `pruners.Target`, or a pattern of masks with a sparsity.
        budgets: judged for every network and target.
        examples: that curves and refits see, drawn from the training split.
        judged: others of the training split, that damage is measured on.
        batch_size: examples a batch.
        solver: of masks.
        seed: of examples and budgets.
        part, parts: every `parts`-th network from the `part`-th on, so that several processes or
            machines divide the work; their folders are put together by copying.
    """

    folder: str
    zoos: Sequence[str]
    targets: Sequence[Mapping[str, Any]] = field(default_factory=_targets)
    budgets: int = 36
    examples: int = 1024
    judged: int = 1024
    batch_size: int = 256
    solver: str = "admm"
    seed: int = 0
    part: int = 0
    parts: int = 1

    def __post_init__(self) -> None:
        check_positive(self, "budgets", "examples", "judged", "batch_size", "parts")
        for name in ("examples", "judged"):
            if getattr(self, name) % self.batch_size:
                raise ValueError(
                    f"{name} must be whole batches of {self.batch_size} (got "
                    f"{getattr(self, name)}); give another batch_size"
                )
        if not 0 <= self.part < self.parts:
            raise ValueError(f"part must be from 0 to parts − 1 (got {self.part} of {self.parts})")
        if not self.targets:
            raise ValueError("targets asks for nothing: {pattern: channels, macs: 50%}, or others")
        fitting = solvers_for(masks=True, factors=False)
        if self.solver not in fitting:
            raise ValueError(
                f"solver must be one for masks: {', '.join(fitting)} (got {self.solver!r})"
            )
        if isinstance(self.zoos, str):
            raise ValueError("zoos takes a list of folders that `metaprune zoo` made")
