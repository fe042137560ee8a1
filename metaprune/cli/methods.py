"""Ways to prune that are compared with one another: what was asked for, and its baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metaprune.advice import find
from metaprune.patterns import parse
from metaprune.planning import check_choices
from metaprune.settings import Settings
from pruners import budgets

SHIPPED = "default"
"""The metanetwork that comes with the package."""


@dataclass(frozen=True)
class Method:
    """A way to prune: its name in the report, its metanetwork (or None), its budget."""

    name: str
    metanet: str | None
    budget: str | Mapping[str, Any]

    @property
    def choice(self) -> dict[str, Any]:
        """The settings that make it this method."""
        return {"metanet": self.metanet, "budget": self.budget}


def methods(
    settings: Settings, compare: Sequence[str | Mapping[str, Any]], measured: bool = True
) -> list[Method]:
    """The method that was asked for, then the baselines, which see no metanetwork.

    Args:
        settings: of the pruning.
        compare: budgets of the baselines; those that cannot divide the pattern are left out where
            it leaves only one. "metanet" is the metanetwork of the settings, or the shipped one.
        measured: whether there is calibration data.
    """
    pattern = parse(settings.pattern)
    metanet = settings.metanet if pattern.advised else None
    first = settings.budget or ("metanet" if metanet else pattern.default_budget(measured))
    found = [Method(budgets.named(first)[0], metanet, first)]
    if len(pattern.budgets()) == 1:
        return found
    for rule in compare:
        name = budgets.named(rule)[0]
        advised = name == "metanet"
        if advised and not pattern.advised:
            continue
        other = Method(name, (settings.metanet or SHIPPED) if advised else None, rule)
        if all((other.name, other.metanet) != (m.name, m.metanet) for m in found):
            found.append(other)
    return found


def check_methods(
    settings: Settings,
    targets: Sequence[Mapping[str, Any]],
    chosen: Sequence[Method],
    measured: bool,
) -> None:
    """Refuse what does not fit together, before a network or data are loaded.

    Args:
        settings: of every point, without what the point is.
        targets: see `Study.run`.
        chosen: the methods.
        measured: whether there will be calibration.

    Raises:
        ValueError: a name or an option that nothing answers to, or an amount that is none.
        FileNotFoundError: a metanetwork that is not there.
    """
    for method in chosen:
        if method.metanet is not None:
            find(method.metanet)
        for target in targets:
            check_choices(replace(settings, target=target or None, **method.choice), measured)


def options_of(budget: str | Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of a budget; none where it is a name alone."""
    return budget if isinstance(budget, Mapping) else {}
