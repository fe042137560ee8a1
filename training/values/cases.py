"""Triples beside the facts of their networks: what a value learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from metanet import ValueNetwork
from pruners import Target, fingerprint
from pruners.curves import Facts, facts_of
from training.meta.subjects import subjects_of
from training.triples.cases import Widths
from training.triples.measure import measured
from training.triples.settings import TriplesConfig
from training.triples.store import Triples
from training.values.learned import LearnedValue
from training.zoo.members import PARTS

ROUNDING = 1e-6
"""Nats; budgets that do less damage than this are not told apart."""


@dataclass(frozen=True)
class Known:
    """Budgets of one network for one target, what they did, and what is known of the network.

    Args:
        triples: budgets and damages.
        facts: of the network.
        share: of the whole cost that stays.
    """

    triples: Triples
    facts: Facts
    share: float

    @property
    def family(self) -> str:
        """Of the network."""
        return self.triples.family

    def told(self, network: ValueNetwork) -> LearnedValue:
        """The value of this network's budgets."""
        one = self.triples
        return LearnedValue(network, self.facts, one.curves, one.dials, one.whole, self.share)


def known_of(
    zoos: Sequence[str | Path],
    found: Sequence[Triples],
    report: Callable[[int, int], None] | None = None,
) -> list[Known]:
    """Facts of networks are measured anew, on the examples that their triples were measured on.

    Args:
        zoos: folders of the networks.
        found: triples; those of masks are passed over, and those of networks that most budgets
            do no damage to.
        report: told after every network how many are done, of how many.

    Raises:
        ValueError: triples of a network that the zoos lack, or of other examples.
    """
    wanted: dict[str, list[Triples]] = {}
    for one in found:
        if one.pattern == "channels" and float(one.damage.median()) > ROUNDING:
            wanted.setdefault(one.record["fingerprints"]["weights"], []).append(one)
    subjects = {}
    for zoo in zoos:
        for part in PARTS:
            for subject in subjects_of([zoo], part):
                subjects[fingerprint(subject.net)["weights"]] = subject
    known = []
    for done, (weights, cases) in enumerate(wanted.items(), start=1):
        if weights not in subjects:
            raise ValueError(
                f'no member of {", ".join(map(str, zoos))} is the network "{cases[0].member}" that '
                "triples were measured on; name its zoo"
            )
        subject = subjects[weights]
        asked = {**cases[0].record["settings"], "folder": "", "zoos": [""]}
        expected, _ = measured(subject, TriplesConfig(**asked))
        for one in cases:
            target = Target.parse(one.asked)
            case = Widths(expected, target)
            facts = facts_of(subject.net, expected.sides, case.orders)
            known.append(Known(one, facts, target.share(subject.net)))
        if report:
            report(done, len(wanted))
    return known
