"""Write every generated page and picture of docs/ from the records of what was measured.

    python -m benchmarks.pages      (or: make docs)

Nothing is measured here. Records come from `python -m benchmarks.architectures`, `python -m
benchmarks.targets` and `python -m benchmarks.expected_loss`, and are part of the repository. A page
without its record stays as it is, and is named with the command that measures it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.expected_loss.cells import Records
from benchmarks.pages import architectures, expected_loss, faults, records, targets, tradeoffs
from graphs.tools.files import write_text


@dataclass(frozen=True)
class Page:
    """A generated page or picture.

    Args:
        path: where it lies.
        records: what it is made from.
        measure: the command that writes the records.
        write: writes it.
    """

    path: Path
    records: Sequence[Path]
    measure: str
    write: Callable[[Path], None]


def _architectures(path: Path) -> None:
    lines = records.ARCHITECTURES.read_text(encoding="utf-8").splitlines()
    write_text(path, architectures.page([json.loads(line) for line in lines]))


def _targets(path: Path) -> None:
    lines = records.TARGETS.read_text(encoding="utf-8").splitlines()
    write_text(path, targets.page([json.loads(line) for line in lines]))


def _faults(path: Path) -> None:
    lines = records.FAULTS.read_text(encoding="utf-8").splitlines()
    write_text(path, faults.page([json.loads(line) for line in lines]))


def _expected_loss(path: Path) -> None:
    write_text(path, expected_loss.page(records.EXPECTED_LOSS))


def _tradeoffs(path: Path) -> None:
    tradeoffs.draw(path, [*Records(records.RESNETS)])


PAGES = (
    Page(
        records.DOCS / "expected-loss-results.md",
        (records.EXPECTED_LOSS,),
        "python -m benchmarks.expected_loss",
        _expected_loss,
    ),
    Page(
        records.DOCS / "architectures.md",
        (records.ARCHITECTURES,),
        "python -m benchmarks.architectures",
        _architectures,
    ),
    Page(
        records.DOCS / "promise.md",
        (records.TARGETS,),
        "python -m benchmarks.targets",
        _targets,
    ),
    Page(
        records.DOCS / "reliability.md",
        (records.FAULTS,),
        "python -m benchmarks.faults",
        _faults,
    ),
    Page(
        records.DOCS / "results.svg",
        (records.RESNETS,),
        "python -m benchmarks.expected_loss resnets",
        _tradeoffs,
    ),
)


def main(pages: Sequence[Page] = PAGES) -> None:
    """Write the pages; leaves by SystemExit with a sentence for each that has no record."""
    missing = []
    for page in pages:
        lacking = [path for path in page.records if not path.exists()]
        if lacking:
            names = ", ".join(path.name for path in lacking)
            missing.append(f"{page.path.name} needs {names}; measure: {page.measure}")
            continue
        page.write(page.path)
        print(page.path.relative_to(records.ROOT))
    if missing:
        sys.exit("\n".join(missing))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    main()
