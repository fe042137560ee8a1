"""Measuring triples: budgets of rules, others around the least expected loss, and an evolution."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pruners import fingerprint
from pruners.budgets.problems.problem import Choice, Problem
from pruners.budgets.searching.evolution import evolve
from pruners.budgets.searching.judge import Judge as Counted
from pruners.budgets.searching.surrogate import FARTHEST
from pruners.curves import ExpectedLoss, Judge, damage_of
from training.config import from_mapping
from training.meta.subjects import Subject, subjects_of
from training.triples.cases import Case, Goal
from training.triples.settings import TriplesConfig
from training.triples.store import CASE, JOURNAL, Triples, read_case, write_case
from training.zoo.members import PARTS

SPREADS, SHARES = (0.4, 0.8, 1.5), (0.3, 0.6, 1.0)
"""Noise on the logits of budgets around the least expected loss, and the shares of dials that get
some."""

AROUND = 0.4
"""Share of the budgets that are drawn so; what is left is an evolution of the best."""


def measure_triples(
    config: TriplesConfig | Mapping[str, Any],
    versions: Mapping[str, str] | None = None,
    report: Callable[[int, int, Triples], None] | None = None,
) -> list[Triples]:
    """Measure all that is missing; what is there stays, and what was interrupted continues.

    Args:
        config: settings.
        versions: recorded with every case.
        report: told after every case: how many are done, of how many, and the case.

    Raises:
        ValueError: settings that are none, or a folder with a case of other settings.
    """
    settings = config if isinstance(config, TriplesConfig) else from_mapping(TriplesConfig, config)
    if not settings.zoos:
        raise ValueError("zoos names no folder: give one or more that `metaprune zoo` made")
    goals = [Goal.of(given) for given in settings.targets]
    subjects = [
        (Path(zoo).name, subject)
        for zoo in settings.zoos
        for part in PARTS
        for subject in subjects_of([zoo], part)
    ]
    # By seed families take turns, so that the first few networks are of all of them.
    subjects.sort(key=lambda each: each[1].name.rpartition("-")[::-1])
    subjects = subjects[settings.part :: settings.parts]
    found: list[Triples] = []
    for zoo, subject in subjects:
        for one in _of_network(zoo, subject, goals, settings, versions or {}):
            found.append(one)
            if report:
                report(len(found), len(subjects) * len(goals), one)
    return found


def _of_network(
    zoo: str,
    subject: Subject,
    goals: list[Goal],
    settings: TriplesConfig,
    versions: Mapping[str, str],
) -> Iterator[Triples]:
    folder = Path(settings.folder) / f"{zoo}-{subject.name}"
    asked = {
        key: value
        for key, value in asdict(settings).items()
        if key not in ("folder", "zoos", "targets", "part", "parts")
    }
    seen: tuple[ExpectedLoss, Judge] | None = None
    for goal in goals:
        here = folder / goal.name
        if (here / CASE).exists():
            done = read_case(here)
            own = {"settings": asked, "fingerprints": fingerprint(subject.net)}
            other = [key for key, value in own.items() if done.record[key] != value]
            if dict(done.asked) != dict(goal.asked):
                other.append("target")
            if other:
                words = {"settings": "with other settings", "target": f"for {dict(done.asked)}"}
                raise ValueError(
                    f"{str(here)!r} was measured "
                    f"{words.get(other[0], 'on another network of this name')}; "
                    "give another folder, or delete it"
                )
            yield done
            continue
        if seen is None:
            seen = measured(subject, settings)
        expected, judge = seen
        case = goal.case(expected, settings.solver)
        about = {
            "member": subject.name,
            "family": subject.family,
            "pattern": goal.pattern,
            "asked": dict(goal.asked),
            "dials": list(case.problem.dials),
            "whole": list(case.whole),
            "settings": asked,
            "fingerprints": fingerprint(subject.net),
            "data": subject.data.fingerprint,
            "versions": dict(versions),
        }
        here.mkdir(parents=True, exist_ok=True)
        searched = json.dumps({k: v for k, v in about.items() if k != "versions"})

        def damage(choice: Choice, case: Case = case, judge: Judge = judge) -> float:
            return damage_of(partial(case.prune, choice), judge)

        with Counted(
            damage, settings.budgets, searched, here / JOURNAL, folder.name, infinite=True
        ) as counted:
            rules = case.rules()
            _spend(case.problem, rules, counted, settings)
            order = list(counted.measured)
        named = {name: order.index(choice) for name, choice in rules.items() if choice in order}
        write_case(here, about, case.curves, named)
        yield read_case(here)


def _spend(
    problem: Problem, rules: Mapping[str, Choice], judge: Counted, settings: TriplesConfig
) -> None:
    """Judge the budgets of rules, others around the first of them, and an evolution from it."""
    generator = torch.Generator().manual_seed(settings.seed)
    for choice in rules.values():
        if not judge.spent:
            judge(choice)
    first = problem.logits(next(iter(rules.values()))).clamp(-FARTHEST, FARTHEST)
    wanted = min(settings.budgets, len(judge.measured) + round(AROUND * settings.budgets))
    for turn in range(4 * settings.budgets):
        if len(judge.measured) >= wanted:
            break
        noise = torch.randn(len(first), generator=generator, dtype=torch.float64)
        share = SHARES[int(torch.randint(len(SHARES), (), generator=generator))]
        chosen = torch.rand(len(first), generator=generator) < share
        judge(problem.realise(first + SPREADS[turn % len(SPREADS)] * noise * chosen))
    if not judge.spent and judge.best is not None:
        evolve(problem, problem.logits(judge.best[1]), judge, generator)


def measured(subject: Subject, settings: TriplesConfig) -> tuple[ExpectedLoss, Judge]:
    """Expected losses of a network, and a judge by other examples."""
    batches = subject.data.calibration(
        settings.examples + settings.judged, settings.batch_size, settings.seed
    )
    inputs = [subject.data.task.example_inputs(batch) for batch in batches]
    count = -(-settings.examples // settings.batch_size)
    fit, judging = inputs[:count], inputs[count:]
    if not judging:
        raise ValueError(
            f"the training split has too few examples to judge by: {settings.examples} + "
            f"{settings.judged} are asked, of {len(subject.data.train)}"
        )
    expected = ExpectedLoss(subject.net, fit, model=subject.model)
    return expected, Judge(subject.model, judging)
