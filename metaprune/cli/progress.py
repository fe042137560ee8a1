"""What a run is doing, said where a step takes longer than people wait without a word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Timer

from rich.console import Console

PATIENCE = 1.5
"""Seconds after which a step is named; what is done sooner is not worth a line."""


@dataclass(frozen=True)
class Progress:
    """Lines about steps that take long; not a bar, so that what a step shows itself stays whole.

    Args:
        console: where they are told.
        shown: whether anything is.
    """

    console: Console = field(default_factory=Console)
    shown: bool = True

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Name a step, once it takes longer than `PATIENCE`.

        Args:
            what: is done: "loading the data".
        """
        if not self.shown:
            yield
            return
        timer = Timer(PATIENCE, self._tell, [what])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _tell(self, what: str) -> None:
        self.console.print(f"{what} ...", style="dim", highlight=False, markup=False)
