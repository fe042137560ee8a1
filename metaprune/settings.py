"""How to prune: every option in one place, for Python, the command line, plans and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf
from pathlib import Path
from typing import Any

from pruners import Target
from training.config import from_mapping

WITHOUT_TARGET = 'say what to reach, for instance target={"macs": "50%"}'
"""The remedy of a pattern that leaves a choice."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to prune; an immutable value.

    What to reach:

    Args:
        target: `{"macs": "50%"}`, `{"params": 6e6, "speedup": 2.0}`, `{"sparsity": 0.5}`, ...: all
            are met, never by less than was asked and never by more than one unit of the pattern.
            None only for N:M patterns, which leave no choice.
        schedule: "one-shot", or in several prunings of which each starts from the result of the
            last: "iterative", or with options, `{"iterative": {"steps": 3, "spacing": "cubic"}}`.

    What goes:

    Args:
        pattern: "channels" (smaller shapes), "equal-widths" (channels, as many in every repeated
            block, so that one configuration says the widths of all layers), "blocks" (fewer
            layers), "low-rank" (two thin layers for one), "unstructured", "row", "column",
            "block:RxC" or "N:M" (masks), "sparse+low-rank" or "N:M+low-rank" (a mask and two thin
            layers beside it), or one that another package has registered (`metaprune.patterns`).
        min_units: for channels: fewest units an axis keeps, a share (float) or a number (int).
        round_to: for channels: kept numbers of units are multiples of this.
        ignore: what is left dense: names of modules or parameters, glob patterns (`"layer3.*"`), or
            classes of modules (`nn.LayerNorm`, or by name, `"LayerNorm"`). No weight of theirs goes
            and their shapes stay, so what feeds them keeps its width too.

    What makes it easier:

    Args:
        transform: changes that keep the function (`pruners.transformations`), for masks and
            channels: "rotate", or in order by name with options, `{"rotate": {"descent": 300},
            "permute": {}}`; "auto" tries them on left-out examples; None does without.

    How it is chosen:

    Args:
        metanet: name or path of a metanetwork that transforms the weights and advises the budget
            by a feedforward pass, such as "default"; None does without. Patterns that none has
            learned do without.
        budget: how the target is divided: a rule of `pruners.budgets`, or "metanet"; a rule with
            options, `{"rule": "search", "evaluations": 400}`; or kept shares by name or glob
            pattern, `{"layer3.*": 0.2}`. None takes the metanetwork where one is named, else what
            fits the pattern: "expected-loss" where there is calibration.
        solver: of `pruners.solvers`, for masks and factors: what finds them. None takes what fits
            the pattern and the calibration.

    What makes up for it:

    Args:
        recovery: methods in order, by name or with options (`pruners.recovery`): `["bias",
            "refit"]`, `["default", {"finetune": {"epochs": 1}}]`. "default" stands for what fits
            the pattern, where there is calibration; so does None. An empty list does nothing.
    """

    target: Mapping[str, Any] | Target | None = None
    schedule: str | Mapping[str, Any] = "one-shot"
    pattern: str = "channels"
    min_units: float | int = 0.05
    round_to: int = 1
    ignore: Sequence[str] = ()
    transform: str | Mapping[str, Any] | None = None
    metanet: str | None = None
    budget: str | Mapping[str, Any] | None = None
    solver: str | None = None
    recovery: Sequence[str | Mapping[str, Any]] | None = None

    @classmethod
    def of(cls, **options: Any) -> Settings:
        """Settings from keywords, each checked at once.

        Raises:
            ValueError: an unknown or mistyped setting; says what it takes, and the nearest name.
        """
        if isinstance(ignore := options.get("ignore"), list | tuple):
            options["ignore"] = tuple(e.__name__ if isinstance(e, type) else e for e in ignore)
        if isinstance(options.get("metanet"), Path):
            options["metanet"] = str(options["metanet"])
        if isinstance(options.get("target"), Target):
            options["target"] = options["target"].asked
        return from_mapping(cls, options)

    def __post_init__(self) -> None:
        if self.target is not None:
            Target.parse(self.target)
        least, share = self.min_units, isinstance(self.min_units, float)
        if not 0 <= least <= (1 if share else inf):  # NaN is not either
            raise ValueError(
                f"min_units must be a share from 0 to 1 or a number of units (got {least})"
            )
        if self.round_to < 1:
            raise ValueError(f"round_to must be at least 1 (got {self.round_to})")

    @property
    def wanted(self) -> Target | None:
        """The target, parsed."""
        return None if self.target is None else Target.parse(self.target)

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values, for plans and reports; `of(**...)` reads them back."""
        found = {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)}
        if self.wanted is not None:
            found["target"] = self.wanted.asked
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
