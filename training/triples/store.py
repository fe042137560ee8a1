"""What is written of triples: a folder for every case, and how it is read again.

    folder/<zoo>-<member>/<pattern and target>/case.json      what was pruned, and the curves
                                               journal.jsonl  one line a budget and its damage

`case.json` is written last: a folder without it is not yet a case.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from graphs.tools.documents import FileError, parse_json, read_json, read_text, reason
from graphs.tools.files import write_text
from pruners.curves import Curve, SumOfLosses

CASE, JOURNAL = "case.json", "journal.jsonl"
REMEDY = "delete the folder and run `metaprune triples` again"


@dataclass(frozen=True)
class Triples:
    """Budgets of one network for one target, and what they did.

    Args:
        member: of the zoo.
        family: of the member.
        pattern: what went.
        asked: target.
        dials: what budgets choose, by name.
        whole: what a choice holds where all of a dial stays.
        curves: dial → expected loss.
        named: name of a rule → place of its budget in `choices`.
        choices: what stays of every dial, (K, L), int64.
        damage: mean KL to the dense network, (K,), float64; infinite where what is left computes
            NaN.
        record: versions, settings, fingerprints.
    """

    member: str
    family: str
    pattern: str
    asked: Mapping[str, Any]
    dials: tuple[str, ...]
    whole: tuple[int, ...]
    curves: Mapping[str, Curve]
    named: Mapping[str, int]
    choices: torch.Tensor
    damage: torch.Tensor
    record: Mapping[str, Any]

    def value(self) -> SumOfLosses:
        """The sum of expected losses."""
        return SumOfLosses(self.dials, self.curves, self.whole)


def write_case(
    folder: Path, about: Mapping[str, Any], curves: Mapping[str, Curve], named: Mapping[str, int]
) -> None:
    """Make a folder with a journal a case."""
    drawn = {name: {"kept": one.kept, "losses": one.losses} for name, one in curves.items()}
    content = {**about, "named": dict(named), "curves": drawn}
    write_text(folder / CASE, json.dumps(content, indent=1) + "\n")


def read_case(folder: Path) -> Triples:
    """Read a case.

    Raises:
        ValueError: its files are damaged, or not of one case.
    """
    try:
        about = read_json(folder / CASE, REMEDY, below=folder)
        lines = read_text(folder / JOURNAL, REMEDY, below=folder).splitlines()
        rows = [parse_json(line) for line in lines[1:]]
        if max(about["named"].values(), default=0) >= len(rows):
            raise ValueError(f"a journal of {len(rows)} budgets lacks some that are named")
        choices = torch.tensor([row["choice"] for row in rows], dtype=torch.int64)
        curves = {
            name: Curve(tuple(one["kept"]), tuple(one["losses"]))
            for name, one in about.pop("curves").items()
        }
        found = Triples(
            **{k: about.pop(k) for k in ("member", "family", "pattern", "asked", "named")},
            dials=tuple(about.pop("dials")),
            whole=tuple(about.pop("whole")),
            curves=curves,
            choices=choices.reshape(len(rows), -1),
            damage=torch.tensor([row["loss"] for row in rows], dtype=torch.float64),
            record=about,
        )
    except Exception as error:  # whatever damaged files make a reader raise
        raise FileError(
            f"{str(folder)!r} holds no triples that can be read ({reason(error)}); {REMEDY}"
        ) from error
    if found.choices.shape[1] != len(found.dials):
        raise FileError(
            f"{str(folder)!r} holds a journal of {found.choices.shape[1]} dials and a case of "
            f"{len(found.dials)}; {REMEDY}"
        )
    return found


def triples(folders: Sequence[str | Path]) -> list[Triples]:
    """All complete cases below these folders, sorted by path.

    Raises:
        FileNotFoundError: a folder without any.
        ValueError: one that is damaged.
    """
    found = []
    for folder in folders:
        paths = sorted(path.parent for path in Path(folder).rglob(CASE))
        if not paths:
            raise FileNotFoundError(
                f"{str(folder)!r} holds no triples; make some with `metaprune triples`"
            )
        found += [read_case(path) for path in paths]
    return found
