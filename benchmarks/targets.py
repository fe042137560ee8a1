"""Whether every pattern meets its target, with every rule: never above, within one unit below.

    python -m benchmarks.targets
    python -m benchmarks.targets --only mlp_mixer vgg

Ten small networks of the register; 30, 50 and 70 % are asked of the multiply-accumulates, of the
parameters for low rank, and of the weights for masks. What is left is counted here again, from what
the plan keeps, and so is the unit: the least that could have stayed besides. Rows go to `--record`;
`make docs` writes the page.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.pages.records import TARGETS as RECORD
from graphs.depth.drop import count_without
from graphs.tools.files import write_text
from metaprune.calibration import Calibration
from metaprune.job import Job
from metaprune.patterns import parse
from metaprune.patterns.ties import ties
from metaprune.planning import plan_job
from metaprune.settings import Settings
from pruners import Plan, Target, units
from pruners.solvers import MaskPattern, matrix_shape
from pruners.targets import SPARED
from tests.architectures import build

NETWORKS = (
    "vgg_bn",
    "resnet_cifar_option_a",
    "mobilenet_v2",
    "densenet",
    "unet_upsample",
    "mlp_mixer",
    "ViTForImageClassification",
    "LlamaForCausalLM",
    "GPT2LMHeadModel",
    "lstm_classifier",
)
PATTERNS = (
    *("channels", "equal-widths", "blocks", "low-rank"),
    *("unstructured", "row", "column", "block:4x4", "2:4", "sparse+low-rank"),
)
SHARES = (0.7, 0.5, 0.3)
"""That stay: 30, 50 and 70 % go."""

SHORT: dict[str, dict[str, Any]] = {
    "search": {"evaluations": 3},
    "bernoulli": {"evaluations": 5},
    "price": {"steps": 2},
    "distortion": {"grid": [0.2, 0.6, 1.0]},
}
"""Few measurements: what is shown is not how good a rule is."""

PATIENCE = 120
"""Seconds for one plan."""


def asked(pattern: str, share: float) -> dict[str, Any]:
    """The target of a pattern at a share that stays."""
    kind = parse(pattern)
    if kind.prunes == "axes":
        return {"macs": f"{100 * share:g}%"}
    return {"params": f"{100 * share:g}%"} if pattern == "low-rank" else {"sparsity": 1 - share}


def left(job: Job, plan: Plan, target: Target) -> tuple[float, float, float]:
    """What may stay, what stays, and the least that could have stayed besides, in one currency."""
    net = job.net
    if plan.pattern in ("channels", "equal-widths"):
        ((count, limit),) = target.limits(net).items()
        names = [a.name for a in net.axes.values() if a.frozen is None and a.kind not in SPARED]
        sizes = {name: net.axes[name].size for name in names} | plan.sizes()
        kept = count(net, sizes)
        steps = [{name: 1} for name in names]
        if plan.pattern == "equal-widths":
            steps = [dict(tie.units) for tie in ties(net, units.base_scores(net))]
        more = [
            count(net, sizes | {name: sizes[name] + n for name, n in step.items()}) - kept
            for step in steps
            if all(sizes[name] + n <= net.axes[name].size for name, n in step.items())
        ]
        # The last unit that went is one of these: the largest bounds it.
        return limit, kept, max(more, default=math.inf)
    if plan.pattern == "blocks":
        ((count, limit),) = target.limits(net).items()
        kept = count(count_without(net, plan.dropped))
        others = [[n for n in plan.dropped if n != name] for name in plan.dropped]
        more = [count(count_without(net, names)) - kept for names in others]
        return limit, kept, min(more, default=math.inf)
    if plan.pattern == "low-rank":
        ((count, limit),) = target.limits(net).items()
        kept = count(net)
        for name, rank in plan.rank.items():
            rows, columns = matrix_shape(net, name)
            kept += rank * (rows + columns) - rows * columns
        more = [sum(matrix_shape(net, name)) for name in plan.rank]
        return limit, kept, min(more, default=math.inf)
    text = plan.pattern.removesuffix("+low-rank")
    mask = MaskPattern.parse("unstructured" if text == "sparse" else text)
    names = list(dict.fromkeys((*plan.density, *plan.rank)))
    total = sum(net.tensors[name].value.numel() for name in names)
    kept, more = 0.0, []
    for name in names:
        rows, columns = matrix_shape(net, name)
        kept += plan.density.get(name, 0.0) * rows * columns
        kept += plan.rank.get(name, 0) * (rows + columns)
        if plan.density.get(name, 0.0) < 1 - 1e-9:
            more.append(rows * columns / mask.levels(rows, columns))
    return target.density(net, names) * total, kept, min(more, default=math.inf)


@contextmanager
def patience(seconds: int) -> Iterator[None]:
    """Raise TimeoutError after so long."""

    def late(*_: object) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def measured(job: Job, pattern: str, rule: str, share: float) -> dict[str, Any]:
    """One row: whether the target was met, or the sentence with which it was refused."""
    row: dict[str, Any] = {"pattern": pattern, "rule": rule, "share": share}
    target = asked(pattern, share)
    budget: Any = {"rule": rule, **SHORT[rule]} if rule in SHORT else rule
    metanet = "default" if rule == "metanet" else None
    settings = Settings.of(pattern=pattern, target=target, budget=budget, metanet=metanet)
    torch.manual_seed(0)
    started = time.perf_counter()
    try:
        with patience(PATIENCE):
            plan = plan_job(job, settings)
    except (ValueError, TypeError, TimeoutError) as error:
        return {**row, "refused": f"{type(error).__name__}: {error}"}
    limit, kept, unit = left(job, plan, Target.parse(target))
    slack = 1e-6 * max(1.0, abs(limit))
    return {
        **row,
        "allowed": limit,
        "kept": kept,
        "unit": unit if math.isfinite(unit) else None,
        "above": kept > limit + slack,
        "short": limit - kept > unit + slack,
        "seconds": round(time.perf_counter() - started, 3),
    }


def main() -> None:
    """Measure what the record lacks, network by network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--only", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    if given.record.exists():
        lines = given.record.read_text(encoding="utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if row["network"] not in given.only]
    for name in given.only:
        model, inputs = build(name, torch.float32)
        job = Job.of(model, inputs, Calibration([inputs]))
        started = time.perf_counter()
        for pattern in PATTERNS:
            kind = parse(pattern)
            rules = [rule for rule in kind.budgets() if rule != "manual"]
            for rule in [*(["metanet"] if kind.advised else []), *rules]:
                for share in SHARES:
                    rows.append({"network": name, **measured(job, pattern, rule, share)})
        write_text(given.record, "".join(json.dumps(row) + "\n" for row in rows))
        print(f"{time.perf_counter() - started:6.0f} s  {name}", flush=True)
    wrong = [row for row in rows if row.get("above") or row.get("short")]
    for row in wrong:
        print(row)
    print(f"{len(rows)} plans, {len(wrong)} of them not as promised")


if __name__ == "__main__":
    main()
