"""`metaprune triples`: measure what budgets do to the networks of a zoo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from metaprune.cli.config import run_folder, typed
from metaprune.results.provenance import versions
from training.config import from_mapping
from training.triples import Triples, TriplesConfig, measure_triples


@dataclass(frozen=True)
class TriplesCommandConfig:
    """Settings of `conf/triples.yaml`."""

    triples: Mapping[str, Any]


def run(config: DictConfig) -> None:
    """Measure every case that is not there yet; an interrupted one goes on where it stopped."""
    settings, content = typed(TriplesCommandConfig, config)
    asked = from_mapping(TriplesConfig, settings.triples, "triples")
    console = Console()

    def report(done: int, cases: int, one: Triples) -> None:
        console.print(f"{done} of {cases}: {sentence(one)}", highlight=False)

    measure_triples(asked, versions(), report)
    run_folder(content)


def sentence(one: Triples) -> str:
    """What a case says, in words."""
    asked = ", ".join(f"{metric} {amount}" for metric, amount in one.asked.items())
    first = float(one.damage[one.named["expected loss"]])
    best = float(one.damage.min())
    return (
        f"{one.member}, {one.pattern} to {asked}: KL {first:.4g} by expected loss, {best:.4g} by "
        f"the best of {len(one.damage)} budgets"
    )
