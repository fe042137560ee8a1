"""Every architecture of the register under every law: the record of docs/architectures.md.

    python -m benchmarks.architectures
    python -m benchmarks.architectures --only language LlamaForCausalLM

Rows go to `--record` when they are measured and take the place of older ones of the same names;
`make docs` writes the page. torchvision and timm need a torch of their own: their rows may come
from another environment, with `--only libraries`, into the same record.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.pages.records import ARCHITECTURES as RECORD
from graphs.tools.files import write_text
from tests.architectures import ARCHITECTURES, available
from tests.architectures.laws import LAWS, facts, subject

COMMIT = subprocess.run(
    ["git", "log", "-1", "--format=%h"], capture_output=True, text=True, check=False
).stdout.strip()


def versions(name: str) -> str:
    """What an architecture ran on: "torch 2.13.0, timm 1.0.31"."""
    packages = ("torch", ARCHITECTURES[name].needs or "transformers")
    return ", ".join(f"{p} {importlib.metadata.version(p).partition('+')[0]}" for p in packages)


def peak_megabytes() -> tuple[float, float]:
    """(now, most since the last reset) of this process' resident memory."""
    status = Path("/proc/self/status").read_text()
    found = {
        key: int(re.search(rf"{key}:\s+(\d+)", status)[1]) / 1024 for key in ("VmRSS", "VmHWM")
    }
    return found["VmRSS"], found["VmHWM"]


def examine(name: str) -> dict[str, Any]:
    """One architecture: traced, measured and put under every law."""
    row: dict[str, Any] = {
        "name": name,
        "field": ARCHITECTURES[name].field,
        "failed": {},
        "commit": COMMIT,
        "versions": versions(name),
    }
    Path("/proc/self/clear_refs").write_text("5")
    before, _ = peak_megabytes()
    start = time.process_time()
    try:
        found = subject(name)
    except Exception as error:
        return {**row, "stage": "trace", "error": last_words(error)}
    row["seconds"] = time.process_time() - start
    row["memory"] = peak_megabytes()[1] - before
    row.update(facts(found))
    for law, check in LAWS.items():
        try:
            result = check(found)
            if law == "certificate":
                row["deviations"] = {law.name: law.deviation for law in result.laws}
                row["silent"] = result.silent
                row["scales"] = sum(result.scales.values())
            if law == "removal":
                row["class"] = type(result).__name__
                row["kept"] = type(result) is type(found.model)
        except Exception as error:
            row["failed"][law] = last_words(error)
    row["total_seconds"] = time.process_time() - start
    return row


def warm_up() -> None:
    """Import what every child needs, so that it is neither timed nor counted as memory."""
    import transformers

    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    for name in ("LlamaForCausalLM", "ResNetForImageClassification"):
        subject(name)


def last_words(error: BaseException) -> str:
    """Type, message and place of an error, shortened."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} at {place}: {str(error)[:900]}"


def in_child(name: str, limit: int) -> dict[str, Any]:
    """`examine` in a process of its own, ended after `limit` seconds of CPU time."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        signal.setitimer(signal.ITIMER_PROF, limit)
        warnings.simplefilter("ignore")
        row = examine(name)
        with os.fdopen(write, "w") as sink:
            json.dump(row, sink)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as source:
        text = source.read()
    _, status = os.waitpid(child, 0)
    if text:
        return json.loads(text)
    ended = (
        f"no answer within {limit} s of CPU time"
        if os.WTERMSIG(status) == signal.SIGPROF
        else "crashed"
    )
    return {"name": name, "field": ARCHITECTURES[name].field, "failed": {}, "error": ended}


def gathered(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name → its last row that ran, else one that says that it was skipped; in register order."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if "skipped" not in row or row["name"] not in found:
            found[row["name"]] = dict(row)
    return {name: found[name] for name in ARCHITECTURES if name in found}


def rounded(value: Any) -> Any:
    """Plain JSON values with six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list | tuple) else value


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, default=RECORD, help="JSON lines; grows")
    parser.add_argument("--only", nargs="*", default=[], help="names or fields")
    parser.add_argument("--limit", type=int, default=90, help="CPU seconds for one architecture")
    options = parser.parse_args()
    options.record.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    warm_up()
    for name, entry in ARCHITECTURES.items():
        if options.only and not {name, entry.field} & set(options.only):
            continue
        if not available(entry):
            row = {"name": name, "field": entry.field, "skipped": f"{entry.needs} is not there"}
        else:
            row = in_child(name, options.limit)
        with options.record.open("a") as sink:
            sink.write(json.dumps(rounded(row), ensure_ascii=False) + "\n")
        print(name, row.get("failed") or row.get("error") or "ok", file=sys.stderr, flush=True)
    rows = gathered(map(json.loads, options.record.read_text().splitlines())).values()
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(options.record, "".join(lines))


if __name__ == "__main__":
    main()
