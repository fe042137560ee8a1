"""Sweeps (`--multirun`): short names of folders, a point that fails ends no others, one summary.

Hydra makes a run of every combination, here or on a cluster; each leaves `point.json` in its
folder. When all are over, hydra calls `Summary`, which puts them together.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from graphs.tools.documents import read_json
from graphs.tools.files import write_text
from metaprune.report import Report
from metaprune.report.pages.sweep import Point, page
from metaprune.results.provenance import today

AGAIN = "run this point again"
POINT = "point.json"
SUMMARY, PAGE = "summary.json", "summary.html"
LONGEST = 40
"""Characters of a folder's name behind its number."""


def short(overrides: str) -> str:
    """What is special about a point, as the end of a folder's name: "-speedup=1.5".

    Args:
        overrides: of the point, as hydra joins them: "target.speedup=1.5,seed=2".
    """
    parts = [part.rpartition("=") for part in re.split(r",(?=[\w.+~@/]+=)", overrides) if part]
    names = [f"{key.rpartition('.')[2]}{equals}{value}" for key, equals, value in parts]
    told = re.sub(r"[^\w.=%-]+", "_", ",".join(names).replace(",", "-")).strip("_.-")
    return f"-{told[:LONGEST]}" if told else ""


# Registered by the import, so that processes of a launcher, which unpickle `Summary`, know it too.
OmegaConf.register_new_resolver("short", short, replace=True)


def naming(fixed: Sequence[str]) -> str:
    """The override by which settings that all points share are left out of their folders' names."""
    names = ",".join(f"'{name}'" for name in fixed)
    return f"hydra.job.config.override_dirname.exclude_keys=[{names}]"


def swept() -> bool:
    """Whether this run is one point of a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def note(error: str | None) -> None:
    """Write down how this point of a sweep ended.

    Args:
        error: a sentence; None where it succeeded.
    """
    from hydra.core.hydra_config import HydraConfig

    own = HydraConfig.get()
    excluded = own.job.config.override_dirname.exclude_keys
    special = [o for o in own.overrides.task if o.partition("=")[0].lstrip("+~") not in excluded]
    folder = Path(own.runtime.output_dir)
    point = {"number": own.job.num, "settings": special, "error": error}
    (folder / POINT).write_text(json.dumps(point, indent=2) + "\n", encoding="utf-8")


def points(folder: Path) -> list[Point]:
    """All points of a sweep by their number, each with its report, if it has one."""
    found = []
    for file in folder.glob(f"*/{POINT}"):
        told = read_json(file, AGAIN)
        written = file.parent / "report.json"
        report = None
        if told["error"] is None and written.is_file():
            report = Report.from_json(written.read_text(encoding="utf-8"))
        point = Point(file.parent.name, tuple(told["settings"]), report, told["error"])
        found.append((told["number"], point))
    return [point for _, point in sorted(found, key=lambda pair: pair[0])]


def lines(found: Sequence[Point]) -> list[dict[str, Any]]:
    """A line for every network of every point; one with its error for a point that failed."""
    listed = []
    for point in found:
        own: dict[str, Any] = {"point": point.folder, "settings": " ".join(point.settings)}
        report = point.report
        if report is None:
            listed.append({**own, "error": point.error})
            continue
        score = report.score
        for entry in report.entries:
            listed.append({
                **own,
                "method": entry.method,
                "asked": " ".join(f"{name} {value}" for name, value in entry.asked.items()),
                "speedup": entry.achieved["speedup"],
                "sparsity": entry.achieved["sparsity"],
                "score": score,
                "dense": report.dense[score],
                "one_shot": entry.before[score],
                "finetuned": entry.after.get(score),
                "latency_ms": entry.latency_ms,
            })  # fmt: skip
    return listed


def table(listed: Sequence[dict[str, Any]]) -> Table:
    """The lines of networks, for people."""
    shown = Table(title="All points", title_justify="left")
    for name in ("point", "method", "asked"):
        shown.add_column(name, overflow="fold")
    for name in ("speed-up", "sparsity", "dense", "one-shot", "finetuned"):
        shown.add_column(name, justify="right")
    for line in listed:
        if "method" not in line:
            continue
        last = "-" if line["finetuned"] is None else f"{line['finetuned']:.4g}"
        shown.add_row(
            line["point"], line["method"], line["asked"], f"{line['speedup']:.2f}×",
            f"{line['sparsity']:.1%}", f"{line['dense']:.4g}", f"{line['one_shot']:.4g}", last,
        )  # fmt: skip
    return shown


class Summary(Callback):
    """One page and one table over all points of a sweep, when the last of them is over."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write `summary.json` and `summary.html`, and print the table.

        Raises:
            SystemExit: a point failed; code 1.
        """
        folder = Path(config.hydra.sweep.dir)
        found = points(folder)
        listed = lines(found)
        text = json.dumps(listed, indent=2, ensure_ascii=False)
        write_text(folder / SUMMARY, text + "\n")
        typed = shlex.join(["metaprune", config.hydra.job.name, "-m", *config.hydra.overrides.task])
        title = f"A sweep of metaprune {config.hydra.job.name}"
        reported = any(point.report is not None for point in found)
        if reported:
            write_text(folder / PAGE, page(found, title, typed, today()))
        console = Console()
        if any("method" in line for line in listed):
            console.print(table(listed))
        for point in found:
            if point.error is not None:
                console.out(f"{point.folder} failed: {point.error}", highlight=False)
        failed = sum(point.error is not None for point in found)
        written = folder / (PAGE if reported else SUMMARY)
        console.print(
            f"{len(found) - failed} of {len(found)} points done; summary: {written}",
            highlight=False,
            soft_wrap=True,
        )
        if failed:
            raise SystemExit(1)
