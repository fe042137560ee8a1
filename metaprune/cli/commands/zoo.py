"""`metaprune zoo`: train the networks that a metanetwork learns from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from metaprune.cli.config import listed, run_folder, tracked, typed
from metaprune.report import words
from training import FitConfig
from training.config import from_mapping
from training.data import check_settings as check_data
from training.fitting import tracking
from training.zoo import ZooConfig, build_zoo


@dataclass(frozen=True)
class ZooCommandConfig:
    """Settings of `conf/zoo.yaml`."""

    zoo: Mapping[str, Any]
    track: str | Sequence[str] | None


def run(config: DictConfig) -> None:
    """Train every member that is not there yet; an interrupted run goes on where it stopped."""
    settings, content = typed(ZooCommandConfig, config)
    asked = from_mapping(ZooConfig, settings.zoo, "zoo")
    check_data(asked.data, "zoo.data")
    for own in ({}, *asked.overrides.values()):
        from_mapping(FitConfig, {**asked.fit, **own}, "zoo.fit")
    tracking.check(listed(settings.track))
    with tracked(settings.track, run_folder(content), content):
        found = build_zoo(asked)
    table = Table("family", "members", "score", title=f"{len(found)} networks")
    families = Counter(member.spec.family for member in found)
    for family, count in sorted(families.items()):
        best = [member.metrics["best"] for member in found if member.spec.family == family]
        score = next(iter(best[0]))
        values = sorted(metrics[score] for metrics in best)
        spread = f"{words.metric(score, values[0])} to {words.metric(score, values[-1])}"
        table.add_row(family, str(count), f"{score} {spread}")
    Console().print(table)
