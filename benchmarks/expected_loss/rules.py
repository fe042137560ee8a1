"""The budget rules that are compared, by the label of their row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from metaprune.patterns import Pattern
from pruners import budgets

METANET = "metanet"
"""The budget of a metanetwork, which is no rule of `pruners.budgets`."""


@dataclass(frozen=True)
class Rule:
    """One row of the tables.

    Args:
        settings: of `metaprune.Settings`: `budget`, `transform`, and `metanet`, `solver`,
            `recovery`, ... where they are not the usual ones (no metanetwork, the solver and
            recovery of the pattern).
        solved: whether masks are judged as the solver leaves them while the budget is sought
            (`pruners.budgets.solving`); of patterns of masks alone.
        always: whether it is measured for patterns that leave no choice too, such as 2:4.
    """

    settings: Mapping[str, Any]
    solved: bool = False
    always: bool = False

    @property
    def budget(self) -> str:
        """The name of its budget; "" for the pattern's own."""
        return budgets.named(self.settings["budget"])[0] if "budget" in self.settings else ""

    def fits(self, pattern: Pattern) -> bool:
        """Whether it can divide a pattern, and the pattern leaves it something to say."""
        if not (pattern.chooses or self.always):
            return False
        if self.solved and pattern.budgets() != budgets.rules_for("masks"):
            return False
        if not self.budget:
            return True
        known = [*pattern.budgets(), *([METANET] if pattern.advised else [])]
        return self.budget in known


def _search(evaluations: int) -> dict[str, Any]:
    return {"budget": {"rule": "search", "evaluations": evaluations}}


def _judged(evaluations: int) -> dict[str, Any]:
    return {"budget": {"rule": "expected-loss", "evaluations": evaluations}}


IMITATED = {"recovery": ["default", "imitate"]}
"""What is solved, then a few hundred steps towards the dense predictions."""

RULES: Mapping[str, Rule] = {
    "uniform": Rule({"budget": "uniform"}, always=True),
    "erk": Rule({"budget": "erk"}),
    "lamp": Rule({"budget": "lamp"}),
    "global": Rule({"budget": "global"}),
    "owl": Rule({"budget": "owl"}),
    "flap": Rule({"budget": "flap"}),
    "depth-linear": Rule({"budget": "depth-linear"}),
    "metanet": Rule({"budget": METANET, "metanet": "default"}, always=True),
    "expected loss": Rule({"budget": "expected-loss"}),
    "expected loss, imitated": Rule(
        {"budget": "expected-loss", "recovery": ["default", "imitate"]}
    ),
    "expected loss, nothing tried": Rule(_judged(0)),
    "expected loss, 16 evaluations": Rule(_judged(16)),
    "expected loss, 64 evaluations": Rule(_judged(64)),
    "uniform, both sides": Rule({"budget": "uniform"}, always=True),
    "price": Rule({"budget": "price"}),
    "distortion": Rule({"budget": "distortion"}),
    "search 16": Rule(_search(16)),
    "search 64": Rule(_search(64)),
    "search 128": Rule(_search(128)),
    "search 16, solved": Rule(_search(16), solved=True),
    "search 64, solved": Rule(_search(64), solved=True),
    "search 128, solved": Rule(_search(128), solved=True),
}
"""Label → rule, the cheap ones first. `price` is always judged as its solver leaves the masks."""

ONE_SIDED = {"budget": "uniform", "recovery": [{"order": {"sides": 1}}]}
"""Masks as they are published: equal shares, each layer for its own outputs."""


def _transformed(name: str, settings: Mapping[str, Any]) -> dict[str, Rule]:
    """Rules for each transformation under these settings."""
    ways: Mapping[str, Mapping[str, Any] | None] = {
        "as it is": None,
        "closed form without data": {"rotate": {"descent": 0, "data": False}},
        "closed form": {"rotate": {"descent": 0}},
        "descent 100": {"rotate": {"descent": 100}},
        "descent 300": {"rotate": {"descent": 300}},
        "descent 100, permute": {"rotate": {"descent": 100}, "permute": {}},
    }
    return {
        f"{name}, {way}": Rule({**settings, "transform": asked}, always=True)
        for way, asked in ways.items()
    }


TRANSFORMED: Mapping[str, Rule] = {
    **_transformed("one side", ONE_SIDED),
    **_transformed("expected loss", {}),
    "expected loss, descent 100, imitated": Rule(
        {**IMITATED, "transform": {"rotate": {"descent": 100}}}, always=True
    ),
}
"""Label → rule of the benchmark of transformations."""

COMPONENTS: Mapping[str, Rule] = {
    "as it is": Rule({}),
    "closed form": Rule({"transform": {"rotate": {"descent": 0}}}),
    "descent 100": Rule({"transform": {"rotate": {"descent": 100}}}),
    "auto": Rule({"transform": "auto"}),
    "descent 100, imitated": Rule({**IMITATED, "transform": {"rotate": {"descent": 100}}}),
}
"""Label → rule of the benchmark of components: units by expected loss."""

_TURNED = {"transform": {"rotate": {"descent": 100}}}

FINISHED: Mapping[str, Rule] = {
    "solved": Rule({**_TURNED}, always=True),
    "blocks imitated": Rule({**_TURNED, "recovery": ["default", "imitate-blocks"]}, always=True),
    "imitated": Rule({**_TURNED, **IMITATED}, always=True),
    "both": Rule({**_TURNED, "recovery": ["default", "imitate-blocks", "imitate"]}, always=True),
}
"""Label → rule of the benchmark of what moves weights after their solver; all turned first."""
