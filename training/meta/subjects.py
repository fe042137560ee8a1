"""Subjects of meta-training: a trained network, its graph, and the data it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graphs import Network, trace
from pruners.statistics import microbatches, unit_evidence
from training.data.core import Data
from training.data.registry import load_settings
from training.data.split import Batch
from training.zoo.members import Member, members

EVIDENCE_EXAMPLES, EVIDENCE_DRAWS = 512, 4


@dataclass
class Subject:
    """One network to prune.

    Args:
        name: of the zoo member.
        family: of the zoo member.
        model: trained, in evaluation mode.
        net: its network.
        data: what it was trained on; the test split is never touched.
    """

    name: str
    family: str
    model: nn.Module
    net: Network
    data: Data
    _evidence: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def batch(self, size: int, random: torch.Generator) -> Batch:
        """Draw training examples, not augmented."""
        count = len(self.data.train)
        return self.data.train.batch(torch.randint(count, (min(size, count),), generator=random))

    def evidence(self, draw: int) -> dict[str, Tensor]:
        """Return the unit evidence of one of `EVIDENCE_DRAWS` calibration sets; measured once."""
        draw %= EVIDENCE_DRAWS
        if draw not in self._evidence:

            def loss(model: nn.Module, batch: Any) -> Tensor:
                return self.data.task.loss(self.data.task.forward(model, batch), batch)

            batches = self.data.calibration(EVIDENCE_EXAMPLES, 128, seed=draw)
            self._evidence[draw] = unit_evidence(self.net, self.model, microbatches(batches), loss)
        return self._evidence[draw]


def subjects_of(zoos: Sequence[str | Path], part: str) -> list[Subject]:
    """Return the subjects of one part (`train` or `held_out`) of several zoos, traced.

    Raises:
        FileNotFoundError: if a zoo has no members in that part.
    """
    loaded: dict[str, Data] = {}
    return [_subject(member, loaded) for zoo in zoos for member in members(zoo, part)]


def _subject(member: Member, loaded: dict[str, Data]) -> Subject:
    recorded = dict(member.metrics["data"])
    expected = recorded.pop("fingerprint")
    if expected not in loaded:
        found = load_settings(recorded)
        if found.fingerprint != expected:
            raise ValueError(
                f"zoo member {str(member.folder)!r} was trained on other data (fingerprint "
                f"{expected[:12]}, got {found.fingerprint[:12]}); build the zoo again"
            )
        loaded[expected] = found
    model, data = member.load(), loaded[expected]
    name, family = member.folder.name, member.spec.family
    return Subject(name, family, model, trace(model, data.example_inputs()), data)
