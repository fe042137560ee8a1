"""Settings of the whole process that one thread changes while others may, too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any


class Switch:
    """A change of the whole process that lasts as long as anybody asks for it.

        QUIET = Switch(lambda: contextlib.redirect_stdout(io.StringIO()))
        with QUIET: ...

    The first who enters makes it and the last who leaves takes it back, in whatever order threads
    come and go; changed and put back by each for itself, it could stay.

    Args:
        make: gives a context in which the process is changed.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._make, self._lock, self._inside = make, threading.Lock(), 0
        self._held: AbstractContextManager[Any]

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._held = self._make()
                self._held.__enter__()
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._held.__exit__(None, None, None)
