"""Metanetworks by name or path, and what one says about a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import metanet
from graphs.tools.digests import file_digest
from metanet import ValueNetwork
from metaprune.calibration import Calibration
from pruners import PlanError
from pruners.statistics import microbatches, unit_evidence

if TYPE_CHECKING:
    from graphs import Network
    from metanet import Transformation

PRETRAINED = Path(__file__).parent / "pretrained"


@dataclass(frozen=True)
class Advisor:
    """A metanetwork file and how it was used, so that a plan can be replayed.

    Args:
        reference: name of a pretrained metanetwork, or a path.
        digest: of the file.
        share: of the cost that stays, which the metanetwork was told.
        evidence: whether it saw calibration evidence beside the weights.
    """

    reference: str
    digest: str
    share: float
    evidence: bool

    @classmethod
    def hire(cls, reference: str, share: float, calibration: Calibration | None) -> Advisor:
        """The metanetwork of this name or path, told this share.

        Raises:
            FileNotFoundError: there is none.
        """
        evidence = calibration is not None and calibration.loss is not None
        return cls(str(reference), file_digest(find(reference)), share, evidence)

    @classmethod
    def of_plan(cls, provenance: Mapping[str, Any]) -> Advisor | None:
        """The metanetwork that a plan was made with, or None.

        Raises:
            PlanError: the entry was edited into something else.
        """
        entry = provenance.get("metanet")
        if entry is None:
            return None
        try:
            return cls(**entry)
        except TypeError as error:
            raise PlanError(
                f'"metanet" in the provenance of the plan cannot be read ({error}); delete it to '
                "prune without a metanetwork, or make the plan again"
            ) from error

    def entry(self) -> dict[str, Any]:
        """What a plan records."""
        return asdict(self)

    def foresight(self) -> ValueNetwork | None:
        """The metanetwork, if it foresees what budgets do; None if it advises."""
        network = metanet.load(find(self.reference))
        return network if isinstance(network, ValueNetwork) else None

    def advise(
        self, net: Network, model: nn.Module, calibration: Calibration | None
    ) -> Transformation:
        """Transformed weights and corrections for a network; the same for the same input.

        Args:
            net: the network.
            model: the module it was traced from; runs for the evidence, and is left as it was.
            calibration: with a loss, if evidence is wanted.

        Raises:
            ValueError: the file has changed since, it foresees instead of advising, or the
                evidence it needs cannot be measured.
        """
        path = find(self.reference)
        if file_digest(path) != self.digest:
            raise ValueError(
                f"the plan was made with another metanetwork than the one now in {str(path)!r} "
                f"(digest {self.digest}); make the plan again"
            )
        network = metanet.load(path)
        if isinstance(network, ValueNetwork):
            raise ValueError(
                f"the metanetwork {self.reference!r} foresees what budgets of {network.foresees} "
                'do, and serves the patterns "channels" and "equal-widths" alone; leave metanet out'
            )
        found = None
        if self.evidence:
            if calibration is None or calibration.loss is None:
                raise ValueError(
                    "the plan's metanetwork saw calibration evidence; pass `calibration` with a "
                    "loss (metaprune.Calibration), or make a plan without"
                )
            pieces = microbatches(calibration.batches)
            found = unit_evidence(net, model, pieces, calibration.loss)
        with torch.no_grad():
            return network(net, found, self.share)


def find(reference: str | Path) -> Path:
    """The file of a metanetwork.

    Args:
        reference: name of a pretrained one ("default"), or a path.

    Raises:
        FileNotFoundError: neither; names those that are there.
    """
    named = PRETRAINED / f"{reference}.safetensors"
    if named.is_file():
        return named
    if Path(reference).is_file():
        return Path(reference)
    there = ", ".join(sorted(path.stem for path in PRETRAINED.glob("*.safetensors"))) or "none"
    raise FileNotFoundError(
        f"there is no metanetwork {str(reference)!r}: give the path of a .safetensors file that "
        f"`metaprune train` wrote, or the name of a pretrained one ({there}); "
        "metanet=null prunes without"
    )
