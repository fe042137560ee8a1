"""How well expected loss ranks budgets: against the divergence of networks that were pruned.

    python -m benchmarks.expected_loss.prediction widths --zoo DIR --cifar10 DIR --triples FILE
    python -m benchmarks.expected_loss.prediction masks --llamas DIR --tinystories DIR

`widths`: rows {member, share, widths, kl} of FILE, budgets of small networks and what they lose
after a refit; curves are drawn anew on other images. `masks`: random shares of two language models
at half of the decoder, solved in order, judged on windows left out. Lines go to the records of the
repository; a second run adds what is missing. docs/expected-loss.md has their table and picture.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.expected_loss import images, texts
from graphs import trace
from pruners import units
from pruners.curves import ExpectedLoss, axis_curves, mask_curves
from pruners.solvers import MaskPattern

RECORDS = Path(__file__).resolve().parents[1] / "records" / "expected_loss" / "prediction.jsonl"

EXAMPLES, BUDGETS, SPREAD = 1024, 24, 0.7
"""Images that curves are drawn on; random budgets of a language model; scatter of their logits."""


def widths(zoo: Path, cifar10: Path, triples: Path, done: set[str]) -> Iterator[dict[str, Any]]:
    """A line for every member of a zoo and share: pairs of expected loss and divergence."""
    rows: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for text in triples.read_text(encoding="utf-8").splitlines():
        row = json.loads(text)
        rows.setdefault((row["member"], row["share"]), []).append(row)
    data = images.cifar16(cifar10)
    for member in dict.fromkeys(name for name, _ in rows):
        if member in done:
            continue
        at = images.subject(images.member(zoo / member, data), data, EXAMPLES, 1, False)
        net = trace(at.model, at.example_inputs)
        scores = units.base_scores(net)
        expected = ExpectedLoss(net, at.calibration.model_inputs, model=at.model)
        curves = axis_curves(net, expected.sides, scores, scores, "given")
        for (name, share), budgets in rows.items():
            if name == member:
                pairs = [[_sum(curves, row["widths"]), row["kl"]] for row in budgets]
                yield _line("widths", member, share, pairs)


def _sum(curves: Mapping[str, Any], kept: Mapping[str, int]) -> float:
    return sum(found.curve.at(kept[axis]) for axis, found in curves.items() if axis in kept)


def masks(llamas: Path, tinystories: Path, done: set[str]) -> Iterator[dict[str, Any]]:
    """A line for every language model: random masks around uniform shares."""
    for name in ("stories260K", "TinyStories-656K"):
        if name in done:
            continue
        at = texts.subject(llamas / name, tinystories, 48, 0, apart=True)
        net = trace(at.model, at.example_inputs)
        weights = [n for n, t in net.tensors.items() if t.role == "weight" and ".layers." in n]
        sizes = torch.tensor([net.tensors[n].value.numel() for n in weights]).double()
        expected = ExpectedLoss(net, at.calibration.model_inputs, weights, model=at.model)
        curves = mask_curves(expected.sides, "admm")
        generator, pairs = torch.Generator().manual_seed(0), []
        for _ in range(BUDGETS):
            logits = SPREAD * torch.randn(len(weights), generator=generator).double()
            shares = _halved(logits, sizes)
            kept = dict(zip(weights, shares.tolist(), strict=True))
            pruned = expected.masked(kept, "admm", MaskPattern.parse("unstructured"))
            total = sum(curves[n].at(share) for n, share in kept.items())
            pairs.append([total, at.judge(pruned)["kl"]])
        yield _line("masks", name, 0.5, pairs)


def _halved(logits: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Shares whose logits are shifted until half of all numbers stay."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        kept = float((torch.sigmoid(logits + middle) * sizes).sum() / sizes.sum())
        low, high = (middle, high) if kept < 0.5 else (low, middle)
    return torch.sigmoid(logits + low)


def _line(kind: str, subject: str, share: float, pairs: list[list[float]]) -> dict[str, Any]:
    rounded = [[float(f"{x:.5g}") for x in pair] for pair in pairs]
    return {"kind": kind, "subject": subject, "share": share, "pairs": rounded}


def spearman(pairs: list[list[float]]) -> float:
    """Correlation of the ranks; ties share their mean rank."""
    first, second = (_ranks([pair[i] for pair in pairs]) for i in (0, 1))
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def _ranks(values: list[float]) -> torch.Tensor:
    listed = torch.tensor(values, dtype=torch.float64)
    _, inverse, counts = listed.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts.double() - 1) / 2)[inverse]


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=["widths", "masks"])
    for name in ("zoo", "cifar10", "triples", "llamas", "tinystories"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--output", type=Path, default=RECORDS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    lines = given.output.read_text("utf-8").splitlines() if given.output.exists() else []
    done = {json.loads(line)["subject"] for line in lines}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    if given.what == "widths":
        found = widths(given.zoo, given.cifar10, given.triples, done)
    else:
        found = masks(given.llamas, given.tinystories, done)
    with given.output.open("a", encoding="utf-8") as file:
        for line in found:
            file.write(json.dumps(line) + "\n")
            file.flush()
            print(line["subject"], line["share"], f"{spearman(line['pairs']):.3f}", flush=True)


if __name__ == "__main__":
    main()
