"""metaprune beside LLM Surgeon, the published curvature pruner: equal data, equal targets, one run.

    OMP_NUM_THREADS=1 python -m benchmarks.expected_loss.surgeon
    python -m benchmarks.expected_loss.surgeon --table

Masks at the suite's targets and 2:4, of the decoder's weights. Whole structures at shares of the
decoder's weights: LLM Surgeon zeroes rows and columns of single matrices and nothing gets smaller,
metaprune removes channels and heads, which every matrix around them must lose; embedding and head
count for neither. LLM Surgeon never touches the head; metaprune refits it, and is measured without
that too. `kronecker` is the reference; seconds are of the CPU.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.expected_loss import kronecker, texts
from benchmarks.expected_loss.cells import DENSE, Cell, Records, Subject, commit, dense, measured
from benchmarks.expected_loss.rules import Rule
from benchmarks.expected_loss.suites import LLAMAS
from benchmarks.expected_loss.tables import markdown, spread
from metaprune.results.provenance import versions

RECORDS = Path(__file__).resolve().parents[1] / "records" / "expected_loss"
BENCHMARK = "surgeon"

CHANNELS = "channels"
OURS, HEAD_UNTOUCHED = "metaprune", "metaprune, head untouched"
SHOTS = (1, 5, 10, 40)
"""The published number to 50 % is 40."""


Line = Mapping[str, Any]


def label(shots: int) -> str:
    """The row of LLM Surgeon in that many shots."""
    return f"LLM Surgeon, {shots} shot{'s' if shots > 1 else ''}"


class FixedEmbedding(nn.Module):
    """An embedding that no target counts: its weight is no parameter.

    Args:
        weight: (vocabulary, features).
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, ids: Tensor) -> Tensor:
        """(...) int64 -> (..., features)."""
        return F.embedding(ids, self.weight)


def decoder_alone(model: Any) -> Any:
    """A copy of a Llama of which targets count the decoder alone, without embedding and head."""
    model = texts.with_fixed_head(model)
    model.model.embed_tokens = FixedEmbedding(model.lm_head.weight)
    return model


def decoder(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of the decoder, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and ".layers." in name
    }


def subject(given: argparse.Namespace, model: str, pattern: str, seed: int) -> Subject:
    """A Llama with the windows of the suites; its figures say which share of the decoder stays."""
    folder, masks = given.llamas / model, pattern != CHANNELS
    examples = examples_of(pattern)
    found = texts.subject(folder, given.tinystories, examples, seed, apart=masks, whole=masks)
    total = sum(layer.weight.numel() for layer in decoder(found.model).values())

    def judge(pruned: nn.Module) -> dict[str, float]:
        left = sum(int(layer.weight.count_nonzero()) for layer in decoder(pruned).values())
        return {**found.judge(pruned), "decoder": round(left / total, 6)}

    planned = found.planned if masks else decoder_alone(found.model)
    return replace(found, judge=judge, planned=planned)


def examples_of(pattern: str) -> int:
    """Sequences of the calibration, as in the suites."""
    return 64 if pattern == CHANNELS else 48


def cells(given: argparse.Namespace) -> Iterator[Cell]:
    """What is measured: model by model and seed by seed, ours first."""
    asked: list[tuple[str, Mapping[str, Any]]] = [
        *((kronecker.UNSTRUCTURED, {"sparsity": share}) for share in (0.5, 0.6, 0.7)),
        (kronecker.TWO_OF_FOUR, {}),
        *((CHANNELS, {"params": f"{share}%"}) for share in (90, 80, 70)),
    ]
    for seed in given.seeds:
        for model in given.models:
            for pattern, target in asked:
                if given.patterns and pattern not in given.patterns:
                    continue
                ours = (OURS,) if pattern == CHANNELS else (OURS, HEAD_UNTOUCHED)
                for rule in (*ours, *map(label, given.shots)):
                    yield Cell(BENCHMARK, model, pattern, target, examples_of(pattern), rule, seed)


def settings_of(cell: Cell, shots: Mapping[str, int]) -> dict[str, Any]:
    """Of a cell's rule: shots of the surgeon, or the budget of metaprune."""
    if cell.rule in shots:
        return {"shots": shots[cell.rule]}
    return {"budget": "expected-loss" if cell.target else "uniform"}


def operated(cell: Cell, at: Subject, shots: int) -> dict[str, Any]:
    """The line of a cell of LLM Surgeon."""
    goal = {**cell.target}
    if cell.pattern == CHANNELS:
        share, pattern = 1 - float(goal["params"].rstrip("%")) / 100, kronecker.ROWS_AND_COLUMNS
    else:
        share, pattern = goal.get("sparsity", 0.5), cell.pattern
    model = copy.deepcopy(at.model)
    started = time.process_time()
    kronecker.pruned(model, decoder(model), at.calibration.model_inputs, pattern, share, shots)
    seconds = time.process_time() - started
    return {
        **asdict(cell),
        "settings": {"shots": shots},
        "calibration": at.calibration.digest,
        "versions": {**versions(), "commit": commit()},
        "figures": at.judge(model),
        "seconds": {"all": round(seconds, 2)},
    }


def table(lines: Sequence[Line]) -> str:
    """Perplexities, CPU seconds, and how many times those of metaprune for the same cells."""
    rows = [line for line in lines if line["pattern"] != DENSE and "figures" in line]
    whole = {line["model"]: line for line in lines if line["pattern"] == DENSE}
    ours = {_cell(line): _seconds(line) for line in rows if line["rule"] == OURS}
    parts = ["## LLM Surgeon: perplexity, CPU seconds\n"]
    for model, pattern in dict.fromkeys((line["model"], line["pattern"]) for line in rows):
        here = [line for line in rows if (line["model"], line["pattern"]) == (model, pattern)]
        targets = list(dict.fromkeys(json.dumps(line["target"]) for line in here))
        body = []
        for rule in dict.fromkeys(line["rule"] for line in here):
            mine = [line for line in here if line["rule"] == rule]
            at = {t: [line for line in mine if json.dumps(line["target"]) == t] for t in targets}
            figures = [spread([line["figures"]["perplexity"] for line in at[t]]) for t in targets]
            times = [_seconds(line) / ours[_cell(line)] for line in mine if _cell(line) in ours]
            ratio = f"{mean(times):.2f}" if times else ""
            body.append([rule, *figures, f"{mean(map(_seconds, mine)):.1f}", ratio])
        parts.append(f"{model} (dense {whole[model]['figures']['perplexity']:.2f}), {pattern}\n")
        header = ["", *(_written(json.loads(t)) for t in targets), "CPU seconds", "× metaprune"]
        parts.append(markdown(header, body))
    return "\n".join(parts)


def _cell(line: Line) -> str:
    return json.dumps([line["model"], line["pattern"], line["target"], line["seed"]])


def _seconds(line: Line) -> float:
    return sum(line["seconds"].values())


def _written(target: Mapping[str, Any]) -> str:
    if "params" in target:
        return f"{target['params']} of the decoder"
    return ", ".join(f"{metric} {amount}" for metric, amount in target.items()) or "perplexity"


def main() -> None:
    """Fill the cells that are missing, or print the tables."""
    given = arguments()
    records = Records(given.output / f"{BENCHMARK}.jsonl")
    if given.table:
        print(table(list(records)))
        return
    torch.set_num_threads(1)
    at = lru_cache(maxsize=4)(lambda *of: subject(given, *of))
    shots = {label(count): count for count in given.shots}
    for model in given.models:
        cell = Cell(BENCHMARK, model, DENSE, {}, examples_of(CHANNELS), DENSE)
        if not records.has(cell, {}):
            records.add(dense(cell, at(model, CHANNELS, 0)))
    for cell in cells(given):
        settings = settings_of(cell, shots)
        if records.has(cell, settings):
            continue
        here = at(cell.model, cell.pattern, cell.seed)
        if cell.rule in shots:
            line = operated(cell, here, shots[cell.rule])
        else:
            if cell.rule == HEAD_UNTOUCHED:
                here = replace(here, model=here.divided, planned=None)
            line = measured(cell, Rule(settings), here)
        records.add(line)
        shown = line.get("figures") or line["refused"]
        place = (cell.model, cell.pattern, cell.target, cell.rule, cell.seed)
        print(time.strftime("%H:%M:%S"), *place, shown, line.get("seconds", ""), flush=True)


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(LLAMAS), choices=LLAMAS)
    parser.add_argument("--patterns", nargs="+", help="default all")
    parser.add_argument("--shots", nargs="+", type=int, default=list(SHOTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2],
                        help="of the calibration")  # fmt: skip
    parser.add_argument("--output", type=Path, default=RECORDS, help="folder of the records")
    parser.add_argument("--llamas", type=Path, default=Path("models"),
                        help="folder of stories260K and TinyStories-656K")  # fmt: skip
    parser.add_argument("--tinystories", type=Path, default=Path("tinystories"),
                        help="folder of tinystories_2M.txt and tinystories_val.txt")  # fmt: skip
    parser.add_argument("--table", action="store_true", help="print what is there, and stop")
    return parser.parse_args()


if __name__ == "__main__":
    main()
