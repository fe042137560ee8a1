"""From a job and settings to a plan: what is kept, and why so much of it where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path

import pruners.recovery.methods  # noqa: F401 (registers recovery methods)
import training.recovery.methods  # noqa: F401 (registers recovery methods)
from graphs.tools.registry import unknown
from metaprune.ignoring import Ignored
from metaprune.job import Job
from metaprune.patterns import Pattern, parse
from metaprune.patterns.meta_device import refuse, without_values
from metaprune.schedules import parse as parse_schedule
from metaprune.settings import WITHOUT_TARGET, Settings
from metaprune.transforming import parse as parse_transform
from metaprune.transforming import told, transformed
from pruners import Plan, budgets
from pruners.recovery.base import RECOVERIES, Asked, Recovery, methods, pair_of
from pruners.solvers import SOLVERS
from training.config import arguments

BOUNDS = ("min_units", "round_to")
"""Settings that bound how many units of an axis stay."""

EVERY_RULE = ("lower", "upper", "start", "rank_share")
"""Options of budgets that not the rule reads, but what stands before it."""

DEFAULT = "default"
"""Stands in a list of recovery methods for those that fit the pattern."""


def plan_job(job: Job, settings: Settings, kept: Path | None = None) -> Plan:
    """Decide what to prune; see `metaprune.plan`.

    Args:
        job: what is pruned.
        settings: how.
        kept: file that keeps what a transformation found, so that it is not found again.
    """
    pattern, settings = resolved(settings, job.measured)
    valueless = without_values(job.net)
    if valueless is not None:
        budget = budgets.named(settings.budget or "")[0]
        refuse(valueless, budget, settings.metanet, settings.transform)
    found = transformed(job, settings, pattern, kept)
    if found is None:
        return pattern.plan(job, settings)
    # Shares are of the network that was given, not of one with more parameters than it.
    counted = None if settings.wanted is None else settings.wanted.in_amounts(job.net).asked
    moved = job.moved(found.moves)
    plan = pattern.plan(moved, replace(settings, target=counted))
    provenance = {
        **plan.provenance,
        "settings": settings.to_json(),
        "transform": told(found, moved.net),
    }
    return replace(
        plan,
        asked={} if settings.wanted is None else settings.wanted.asked,
        moves=found.moves if found.moves else None,
        provenance=provenance,
    )


def ignored(settings: Settings) -> Ignored:
    """What settings leave dense: shapes too, where the pattern cuts them."""
    return Ignored(settings.ignore, parse(settings.pattern).prunes == "axes")


def resolved(settings: Settings, measured: bool) -> tuple[Pattern, Settings]:
    """The pattern of settings, and the settings with nothing left to a default; checked.

    Args:
        settings: as they were given.
        measured: whether there is calibration.

    Raises:
        ValueError: a name that nothing answers to, or that does not fit; says what does.
    """
    pattern = parse(settings.pattern)
    if settings.target is None and pattern.chooses:
        raise ValueError(WITHOUT_TARGET)
    metanet = settings.metanet if pattern.advised else None
    budget = settings.budget
    if budget is None:
        budget = "metanet" if metanet is not None else pattern.default_budget(measured)
    found = replace(
        settings,
        metanet=metanet,
        budget=budget,
        solver=settings.solver or pattern.default_solver(measured),
        recovery=expanded(settings.recovery, pattern, measured),
    )
    check(found, pattern)
    return pattern, found


def check_choices(settings: Settings, measured: bool = True) -> None:
    """Refuse what can be refused without a network: names, options, what a pattern does not read.

    Args:
        settings: as they were given.
        measured: whether there will be calibration.

    Raises:
        ValueError: see `resolved`; an unknown schedule or transformation, or an option that it does
            not have; `min_units` or `round_to` for a pattern that they do not bound.
    """
    pattern, _ = resolved(settings, measured)
    parse_schedule(settings.schedule)
    if settings.transform is not None:
        parse_transform(settings.transform)
    if pattern.bounded:
        return
    for field in fields(Settings):
        if field.name in BOUNDS and getattr(settings, field.name) != field.default:
            raise ValueError(
                f"{field.name} bounds how many units of an axis stay, and pattern "
                f'"{pattern.name}" does not cut axes so: leave {field.name} out'
            )


def check(settings: Settings, pattern: Pattern) -> None:
    """Refuse names that nothing answers to.

    Raises:
        ValueError: an unknown budget, solver or recovery method, one that does not fit the pattern,
            a budget without its metanetwork, or an option that no rule of its name reads.
    """
    rule, options = budgets.named(settings.budget or "")
    known = [*(["metanet"] if pattern.advised else []), *pattern.budgets()]
    if rule not in known:
        if rule in budgets.RULES:
            raise ValueError(
                f'budget "{rule}" cannot divide pattern "{pattern.name}"; expected one of '
                f"{', '.join(known)}"
            )
        raise ValueError(unknown("budget", rule, known))
    if rule == "metanet" and settings.metanet is None:
        raise ValueError('budget "metanet" needs a metanetwork: metanet="default", or a path')
    if rule in budgets.RULES and rule != "manual":
        known = [*EVERY_RULE, *_read_by(rule)]
        for option in options:
            if option not in known:
                said = unknown("option", option, known)
                raise ValueError(f'budget "{rule}" does not read "{option}": {said}')
    fitting = pattern.solvers()
    if settings.solver not in fitting:
        if settings.solver in SOLVERS:
            raise ValueError(
                f'solver "{settings.solver}" does not fit pattern "{pattern.name}"; expected one '
                f"of {', '.join(fitting)}"
            )
        raise ValueError(unknown("solver", settings.solver, fitting))
    made(settings.recovery or (), pattern.prunes)


def _read_by(rule: str) -> list[str]:
    """What a rule reads, whatever it divides: options, and evidence that may be given as one."""
    functions = list(budgets.RULES[rule].functions.values())
    if rule in budgets.JOINT:
        functions.append(budgets.allocate_composite)
    named = [p for function in functions for p in signature(function).parameters.values()]
    return list(dict.fromkeys(p.name for p in named if p.kind is p.KEYWORD_ONLY))


def made(asked: Sequence[Asked], prunes: str | None = None) -> list[Recovery]:
    """Recovery methods by name, their options checked against what those are annotated with.

    Raises:
        ValueError: see `pruners.recovery.base.methods`; or an option that is not what it takes.
    """
    for one in asked:
        name, options = pair_of(one)
        if name == DEFAULT:
            raise ValueError('recovery method "default" has no options: name the methods instead')
        arguments(RECOVERIES.find(name), options, f"recovery.{name}")
    return methods(asked, prunes)


def recovery_methods(job: Job, settings: Settings) -> list[Recovery]:
    """The recovery methods of settings, made and checked against what is there.

    Raises:
        ValueError: see `recovery_for`.
    """
    pattern, _ = resolved(settings, job.measured)
    return recovery_for(pattern, settings.recovery, job)


def recovery_for(
    pattern: Pattern, recovery: Sequence[Asked] | None, job: Job, *, strict: bool = True
) -> list[Recovery]:
    """Recovery methods for a pattern, made and checked against what is there.

    Args:
        pattern: what goes.
        recovery: as it was asked for.
        job: what is pruned.
        strict: whether methods that do not serve the pattern are refused; else they are left out.

    Raises:
        ValueError: an unknown method, one that does not fit, or one that needs batches or data
            where there are none.
    """
    asked = expanded(recovery, pattern, job.measured)
    found = made(asked, pattern.prunes if strict else None)
    found = [method for method in found if pattern.prunes in method.serves]
    check_needs(found, job, taught=True)
    return found


REMEDIES = {
    "batches": "calibration: pass `calibration` or `data`",
    "data": "data: pass `data` (training.data.load(...))",
    "teacher": "the dense network: pass `teacher`",
}
"""What a recovery method may need → how it is given."""


def check_needs(found: Sequence[Recovery], job: Job, *, taught: bool) -> None:
    """Refuse recovery methods without what they need.

    Args:
        found: the methods.
        job: with batches and data, or without.
        taught: whether there is a dense network to learn from.

    Raises:
        ValueError: with the first method that lacks something, and the remedy.
    """
    there = {"batches": job.measured, "data": job.data is not None, "teacher": taught}
    for method in found:
        missing = [need for need in sorted(method.needs) if not there.get(need, False)]
        if missing:
            asked = ", ".join(one.name for one in found)
            raise ValueError(
                f'recovery method "{method.name}" needs {REMEDIES.get(missing[0], missing[0])}, or '
                f"leave it out (asked: {asked})"
            )


def refuse_idle(recovery: Sequence[Asked], prunes: Sequence[str]) -> None:
    """Refuse recovery methods that serve no step of a chain.

    Raises:
        ValueError: one of them would never act.
    """
    for method in made([one for one in recovery if one != DEFAULT]):
        if method.serves.isdisjoint(prunes):
            methods([method.name], prunes[0])


def expanded(
    recovery: Sequence[Asked] | None, pattern: Pattern, measured: bool
) -> tuple[Asked, ...]:
    """Recovery methods with those of the pattern in the place of the default.

    Without calibration the default is nothing: all that could be measured is missing.
    """
    usual: tuple[Asked, ...] = pattern.default_recovery() if measured else ()
    asked: list[Asked] = []
    for method in (DEFAULT,) if recovery is None else recovery:
        asked += usual if method == DEFAULT else [method]
    return tuple(asked)
