"""Settings of the whole process that one thread changes while others may, too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Switch(Generic[T]):
    """A setting that has another value as long as anybody asks for it.

        QUIET = Switch(lambda: lib.verbose, lambda value: setattr(lib, "verbose", value), False)
        with QUIET: ...

    The first who enters changes it and the last who leaves puts it back, in whatever order threads
    come and go.

    Args:
        read: gives the value.
        write: sets it.
        value: that it has inside.
    """

    def __init__(self, read: Callable[[], T], write: Callable[[T], object], value: T) -> None:
        self._read, self._write, self._value = read, write, value
        self._lock, self._inside = threading.Lock(), 0
        self._before: T

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = self._read()
                self._write(self._value)
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
                self._write(self._before)
