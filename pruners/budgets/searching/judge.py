"""The judge of a search: every choice is measured once, counted, and written down."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from math import inf
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from graphs.tools.digests import digest
from graphs.tools.documents import FileError, parse_json, read_text
from graphs.tools.files import write_text
from pruners.budgets.problems.problem import Choice, finite

LARGEST = 1 << 63


class Judge:
    """Losses of choices, each measured once.

    With a journal, a JSON-lines file, a search that was interrupted runs again and finds what it
    had measured: because every proposal follows from the seed and the losses before it, the second
    run continues where the first one stopped, and both end alike.

    Args:
        measure: choice → loss.
        evaluations: fresh choices that may be measured, those in the journal included.
        subject: what is searched, in words that differ between searches (sizes, total, seed,
            method); a journal of another subject is refused.
        journal: file to continue, or to begin; None keeps nothing.
        label: of the progress bar, which is shown on a terminal only.
        again: first choices that are measured even where the journal knows them: it knows nothing
            of the data that it was made with.
        infinite: whether a loss may be infinite, of a choice that the search never takes.
    """

    def __init__(
        self,
        measure: Callable[[Choice], float],
        evaluations: int,
        subject: str = "",
        journal: str | Path | None = None,
        label: str = "search",
        again: int = 1,
        infinite: bool = False,
    ) -> None:
        if evaluations < 1:
            raise ValueError(f"a search needs at least one evaluation (got {evaluations})")
        self.evaluations = evaluations
        self.measured: dict[Choice, float] = {}
        self.best: tuple[float, Choice] | None = None
        self.asked, self._again, self._infinite = 0, again, infinite
        self._measure = measure
        self._journal = None if journal is None else Path(journal)
        self._known = {} if self._journal is None else _read(self._journal, digest(subject))
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(), console=console, transient=True,
            disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task(label, total=evaluations)

    def __enter__(self) -> Judge:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    @property
    def spent(self) -> bool:
        """Whether no fresh choice may be measured any more.

        A search that only proposes what it knows is over as well.
        """
        return len(self.measured) >= self.evaluations or self.asked >= 20 * self.evaluations

    def __call__(self, choice: Choice) -> float:
        """The loss of a choice.

        Raises:
            ValueError: a loss that is not finite.
        """
        self.asked += 1
        if choice in self.measured:
            return self.measured[choice]
        value = self._known.get(choice)
        if value is None or len(self.measured) < self._again:
            fresh = self._measure(choice)
            if not (self._infinite and fresh == inf):
                finite(fresh, f"evaluation {len(self.measured) + 1}")
            if value is None:
                self._write(choice, fresh)
            elif fresh != value and not abs(fresh - value) <= 1e-3 * abs(value) + 1e-9:
                raise ValueError(
                    f"the journal {str(self._journal)!r} says {value:.6g} where {fresh:.6g} was "
                    "measured: weights or calibration data have changed; give another file"
                )
            value = fresh if value is None else value
        self.measured[choice] = value
        if self.best is None or value < self.best[0]:
            self.best = value, choice
        self._bar.update(
            self._task, completed=len(self.measured), description=f"best {self.best[0]:.4g}"
        )
        return value

    def _write(self, choice: Choice, value: float) -> None:
        if self._journal is None:
            return
        with self._journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"choice": list(choice), "loss": value}) + "\n")
            file.flush()
            os.fsync(file.fileno())


def check_search(seed: object, journal: object) -> None:
    """Refuse options that no search takes, before any work.

    Raises:
        ValueError: a seed that is no whole number of 64 bits, or a journal that is no file.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not -LARGEST <= seed < LARGEST:
        raise ValueError(f"seed takes a whole number of 64 bits (got {seed!r})")
    if journal is None:
        return
    if not isinstance(journal, (str, Path)) or not str(journal) or Path(journal).is_dir():
        raise ValueError(f"journal takes the path of a file (got {str(journal)!r})")


def _read(path: Path, subject: str) -> dict[Choice, float]:
    """What a journal knows; a new one is begun where there is none.

    A last line that was cut off in writing is dropped from the file.

    Raises:
        ValueError: the journal of another search, or a file that is none.
    """
    head = json.dumps({"search": subject}) + "\n"
    found: dict[Choice, float] = {}
    try:
        text = read_text(path, "give another file, or delete it") if path.exists() else ""
        if head != text and head.startswith(text):  # new, or interrupted before its first line
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, head)
            return {}
        whole = text[: text.rfind("\n") + 1]
        first, *lines = [parse_json(line) for line in whole.splitlines()]
        begun = first["search"]
        found = {tuple(line["choice"]): float(line["loss"]) for line in lines}
    except Exception as error:  # whatever a damaged line makes of a choice
        raise FileError(
            f"{str(path)!r} is not the journal of a search; give another file, or delete it"
        ) from error
    if begun != subject:
        raise ValueError(
            f"{str(path)!r} is the journal of another search (other weights, target, start, seed "
            "or method); give another file, or delete it"
        )
    if whole != text:
        write_text(path, whole)
    return found
