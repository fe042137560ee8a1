r"""Budgets chosen by a value that never saw their family, beside the least sum of expected losses.

    python -m benchmarks.values --zoos ZOO --triples TRIPLES --output values.jsonl
    python -m benchmarks.values --output values.jsonl --table

Every family is left out in turn: a value learns from the triples of the others and chooses a budget
for each case of this one, evaluating nothing. Both budgets are carried out and judged on training
images that no curve, refit or triple saw. A case is one line, written when it is done: the same
command continues a run that was interrupted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.expected_loss.cells import Records, commit
from benchmarks.expected_loss.tables import markdown
from graphs.tools.words import counted
from metaprune.results.provenance import versions
from pruners import Target, fingerprint
from pruners.budgets.searching.surrogate import foreseen
from pruners.curves import Judge
from training.meta.subjects import Subject, subjects_of
from training.triples import TriplesConfig, triples
from training.triples.cases import Widths
from training.triples.measure import measured
from training.values import Known, ValueConfig, fit_value, known_of
from training.values.cases import ROUNDING
from training.values.judge import geometric_mean, spearman
from training.zoo.members import PARTS

OTHERS = 2048
"""Images that judge both budgets."""


def main() -> None:
    """Judge what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--zoos", nargs="+", type=Path, default=[])
    parser.add_argument("--triples", nargs="+", type=Path, default=[])
    parser.add_argument("--output", type=Path, required=True, help="file of the records")
    parser.add_argument("--table", action="store_true", help="print what is there, and stop")
    given = parser.parse_args()
    if not given.table:
        torch.set_num_threads(1)
        judge_all(given.zoos, given.triples, Records(given.output))
    print(table(Records(given.output)))


def judge_all(zoos: list[Path], folders: list[Path], records: Records) -> None:
    """One line for every case of channels."""
    cases = known_of(zoos, triples(folders))
    subjects = {
        fingerprint(one.net)["weights"]: one
        for zoo in zoos
        for part in PARTS
        for one in subjects_of([zoo], part)
    }
    done = {(line["member"], line["share"]) for line in records}
    for family in sorted({case.family for case in cases}):
        learned = [case for case in cases if case.family != family]
        network = fit_value(learned, ValueConfig())
        for case in cases:
            key = case.triples.member, round(case.share, 6)
            if case.family == family and key not in done:
                subject = subjects[case.triples.record["fingerprints"]["weights"]]
                line = judged(case, subject, network)
                learned_from = counted(len({each.triples.member for each in learned}), "network")
                records.add({**line, "learned from": learned_from, "versions": versions(),
                             "commit": commit()})  # fmt: skip
                print(family, *key, f"{line['chosen'] / line['sum']:.3f}", flush=True)


def judged(case: Known, subject: Subject, network: torch.nn.Module) -> dict[str, object]:
    """What both budgets of a case do to images that nothing saw."""
    one = case.triples
    settings = TriplesConfig(**{**one.record["settings"], "folder": "", "zoos": [""]})
    expected, _ = measured(subject, settings)
    seen = settings.examples + settings.judged
    batches = subject.data.calibration(seen + OTHERS, settings.batch_size, settings.seed)
    others = [subject.data.task.example_inputs(b) for b in batches[seen // settings.batch_size :]]
    judge = Judge(subject.model, others)
    widths = Widths(expected, Target.parse(one.asked))
    first = tuple(one.choices[one.named["expected loss"]].tolist())
    value = case.told(network)
    chosen = foreseen(widths.problem, value, [first], torch.Generator().manual_seed(0))
    choices, damage = one.choices.tolist(), one.damage.clamp_min(ROUNDING)
    return {
        "member": one.member,
        "family": one.family,
        "share": round(case.share, 6),
        "sum": judge(widths.prune(first)),
        "chosen": judge(widths.prune(chosen)),
        "best": float(damage.min() / damage[one.named["expected loss"]]),
        "correlation": spearman(value.log_damage(choices), one.damage),
        "of sum": spearman(one.value().log_damage(choices), one.damage),
    }


def table(records: Records) -> str:
    """Families down: means of correlations, geometric means of damages by those of the sum."""
    lines = list(records)
    body = []
    for family in sorted({line["family"] for line in lines}):
        mine = [line for line in lines if line["family"] == family]
        means = [sum(line[name] for line in mine) / len(mine) for name in ("of sum", "correlation")]
        chosen = geometric_mean([line["chosen"] / line["sum"] for line in mine])
        best = geometric_mean([line["best"] for line in mine])
        cells = [f"{number:.2f}" for number in (*means, chosen, best)]
        body.append([family, str(len(mine)), *cells])
    head = ["family left out", "cases", "rank correlation of the sum", "of the value", "chosen"]
    return markdown([*head, "best of those measured"], body)


if __name__ == "__main__":
    main()
