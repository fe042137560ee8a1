"""`metaprune stream`: masks for a language model that need not fit in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from graphs.tools.files import refuse_filled
from metaprune.cli.config import load_data, plain
from metaprune.cli.settings import EvaluationSettings
from metaprune.streaming.api import stream
from metaprune.streaming.checkpoint import Checkpoint
from metaprune.streaming.evaluation import evaluate
from metaprune.streaming.run import REPORT
from metaprune.streaming.settings import StreamSettings
from training import data as datasets
from training.config import check_positive, from_mapping


@dataclass(frozen=True)
class StreamConfig:
    """Settings of `conf/stream.yaml` beside those of `StreamSettings`."""

    path: str
    output: str
    data: Mapping[str, Any]
    examples: int
    evaluate: EvaluationSettings | None
    device: str
    progress: bool

    def __post_init__(self) -> None:
        check_positive(self, "examples")


def run(config: DictConfig) -> None:
    """Prune, judge both checkpoints, say where the pruned one is."""
    content = plain(config)
    own = {key: content.pop(key) for key in tuple(content) if key in StreamConfig.__annotations__}
    target = content.get("target") or {}
    content["target"] = {key: value for key, value in target.items() if value is not None} or None
    settings, here = from_mapping(StreamSettings, content), from_mapping(StreamConfig, own)
    _ = settings.share  # refused before anything is read
    datasets.check_settings(here.data)
    Checkpoint.of(here.path)  # refused before text is read
    refuse_filled(here.output)
    console = Console()
    data = load_data(here.data)
    examples = data.calibration(here.examples, settings.batch_size, settings.seed)
    batches = [data.task.example_inputs(batch) for batch in examples]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not here.progress
    ) as shown:
        bars: dict[str, Any] = {}

        def tell(what: str, done: int, whole: int) -> None:
            if what not in bars:
                bars[what] = shown.add_task(what, total=whole)
            shown.update(bars[what], completed=done)

        output = stream(
            here.path, here.output, batches, device=here.device, tell=tell, **settings.to_json()
        )
        figures = {}
        if here.evaluate is not None:
            for name, path in (("dense", here.path), ("pruned", str(output))):
                figures[name] = evaluate(
                    path,
                    data,
                    here.evaluate.split,
                    limit=here.evaluate.limit,
                    batch_size=settings.batch_size,
                    device=here.device,
                    tell=lambda what, *done, name=name: tell(f"{what}, {name}", *done),
                )
    report = json.loads((output / REPORT).read_text(encoding="utf-8"))
    console.print(
        f"{report['sparsity']:.4g} of {report['weights']:,} weights inside blocks are zero; "
        f"divergence on the calibration {report['divergence']:.4g}",
        highlight=False,
        soft_wrap=True,
    )
    for name, found in figures.items():
        told = ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in found.items())
        console.print(f"{name}: {told}", highlight=False)
    console.print(f"saved: {Path(output)}", highlight=False, soft_wrap=True)
