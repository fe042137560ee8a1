"""Whether two versions of the code make the same plans for the same inputs.

    python -m benchmarks.same_plans --record after.json
    python -m benchmarks.same_plans --compare before.json after.json

Every sixth architecture of the register is planned for every pattern, with rules that read the
weights alone and rules that measure. A record holds what stays of every axis and weight, or the
sentence with which a plan was refused; to the comparison one weight of a tensor more or fewer is
rounding.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import metaprune
from graphs.tools.files import write_text
from tests.architectures import ARCHITECTURES, available, build

EVERY = 6

CASES: dict[str, dict[str, Any]] = {
    "channels/global": {"target": {"macs": "50%"}, "budget": "global"},
    "channels/uniform": {"target": {"params": "60%"}, "budget": "uniform"},
    "channels/flap": {"target": {"macs": "70%"}, "budget": "flap", "measured": True},
    "channels/metanet": {"target": {"macs": "60%"}, "metanet": "default"},
    "equal-widths": {"pattern": "equal-widths", "target": {"macs": "60%"}, "budget": "global"},
    "blocks": {"pattern": "blocks", "target": {"macs": "80%"}, "measured": True},
    "low-rank/global": {"pattern": "low-rank", "target": {"params": "70%"}, "budget": "global"},
    "low-rank/uniform": {
        "pattern": "low-rank",
        "target": {"macs": "70%"},
        "budget": "uniform",
        "measured": True,
    },
    "unstructured/erk": {"pattern": "unstructured", "target": {"sparsity": 0.5}, "budget": "erk"},
    "unstructured/lamp": {"pattern": "unstructured", "target": {"sparsity": 0.7}, "budget": "lamp"},
    "unstructured/global": {
        "pattern": "unstructured",
        "target": {"sparsity": 0.3},
        "budget": "global",
    },
    "unstructured/uniform": {
        "pattern": "unstructured",
        "target": {"sparsity": 0.5},
        "budget": "uniform",
    },
    "unstructured/owl": {
        "pattern": "unstructured",
        "target": {"sparsity": 0.5},
        "budget": "owl",
        "measured": True,
    },
    "row": {"pattern": "row", "target": {"sparsity": 0.5}, "budget": "uniform"},
    "2:4": {"pattern": "2:4"},
    "2:4/lamp": {"pattern": "2:4", "budget": "lamp"},
    "column": {"pattern": "column", "target": {"sparsity": 0.5}, "budget": "uniform"},
    "block:2x2": {"pattern": "block:2x2", "target": {"sparsity": 0.5}, "budget": "uniform"},
    "sparse+low-rank": {"pattern": "sparse+low-rank", "target": {"sparsity": 0.5}},
    "2:4+low-rank": {"pattern": "2:4+low-rank"},
}


def planned(name: str, case: str) -> dict[str, Any] | str:
    """The plan of an architecture, or why there is none."""
    options = {"metanet": None, **CASES[case]}
    model, inputs = build(name)
    if options.pop("measured", False):
        options["calibration"] = [inputs]
    torch.manual_seed(0)
    try:
        plan = metaprune.plan(model, inputs, **options)
    except Exception as error:  # refusals are compared as well
        return f"{type(error).__name__}: {error}"
    net = metaprune.trace(model, inputs)
    density = {n: round(d * net.tensors[n].value.numel(), 3) for n, d in plan.density.items()}
    return {
        "budget": plan.budget,
        "kept": {axis: list(kept.keep) for axis, kept in plan.kept.items()},
        "weights": density,
        "rank": dict(plan.rank),
        "dropped": list(plan.dropped),
    }


def record(path: Path) -> None:
    """Plan everything; the record grows architecture by architecture."""
    names = sorted(n for n, entry in ARCHITECTURES.items() if available(entry))
    names = [n for n in names if "refused" not in ARCHITECTURES[n].traits][::EVERY]
    found: dict[str, Any] = {}
    started = time.perf_counter()
    for name in names:
        found |= {f"{name} {case}": planned(name, case) for case in CASES}
        write_text(path, json.dumps(found))
        print(f"{time.perf_counter() - started:6.0f} s  {name}", flush=True)


def compare(before: Path, after: Path) -> int:
    """Print where two records differ; how many plans do by more than rounding to whole units."""
    one, other = (json.loads(path.read_text(encoding="utf-8")) for path in (before, after))
    count: Counter[tuple[str, str]] = Counter()
    for key in sorted(one.keys() | other.keys()):
        what = _difference(one.get(key, "missing"), other.get(key, "missing"))
        count[key.split(" ", 1)[1], what] += 1
        if what not in ("the same", "rounded"):
            print(f"{key}: {what}")
    for case in CASES:
        print(f"{case:22s}", {what: n for (c, what), n in sorted(count.items()) if c == case})
    return sum(n for (_, what), n in count.items() if what not in ("the same", "rounded"))


def _difference(one: Any, other: Any) -> str:
    if one == other:
        return "the same"
    if isinstance(one, str) and isinstance(other, str):
        return "the same" if one.split(":")[0] == other.split(":")[0] else f"{one} → {other}"
    if isinstance(one, str) or isinstance(other, str):
        said = [x if isinstance(x, str) else "planned" for x in (one, other)]
        return " → ".join(said)[:300]
    keys = [key for key in one if one[key] != other.get(key)]
    if keys == ["weights"] and one["weights"].keys() == other["weights"].keys():
        gap = max(abs(one["weights"][n] - other["weights"][n]) for n in one["weights"])
        return "rounded" if gap <= 1 else f"up to {gap:.0f} weights of a tensor more or fewer"
    return f"differs in {', '.join(sorted(keys))}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--compare", type=Path, nargs=2)
    given = parser.parse_args()
    if given.record:
        record(given.record)
    if given.compare:
        raise SystemExit(min(compare(*given.compare), 1))
