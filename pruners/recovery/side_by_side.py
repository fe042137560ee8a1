"""Forward passes that stop at every layer, so that many batches go through a network side by side.

A layer can then be fitted to the inputs of all batches before any of them goes on, with one forward
pass a batch in all. Every batch has a thread of its own, but only one of them runs at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from graphs.calls.running import run
from pruners.statistics.calls import Call, LinearCalls


class _Stopped(BaseException):
    """Ends a forward pass that nobody waits for."""


class Stepper:
    """One forward pass, from one call of a watched weight to the next.

    Args:
        model: is in evaluation mode; its weights may change while the pass stands still.
        batch: example input.
        names: id of a weight → its name.
        after: stop when the call has been made, with its output, instead of before.
    """

    def __init__(
        self, model: nn.Module, batch: Any, names: Mapping[int, str], *, after: bool = False
    ) -> None:
        self.name: str | None = None
        self.call: Call | None = None
        self.output: torch.Tensor | None = None
        self._error: BaseException | None = None
        self._stop = False
        self._mine, self._theirs = threading.Semaphore(0), threading.Semaphore(0)

        def pause(call: Call, output: torch.Tensor | None = None) -> None:
            name = names.get(id(call.weight))
            if name is not None:
                self.name, self.call, self.output = name, call, output
                self._wait()

        def forward() -> None:
            try:
                self._mine.acquire()
                if not self._stop:
                    with torch.no_grad(), LinearCalls(*((None, pause) if after else (pause, None))):
                        run(model, batch)
            except _Stopped:
                pass
            except BaseException as error:
                self._error = error
            finally:
                self.name = self.call = self.output = None
                self._theirs.release()

        self._thread = threading.Thread(target=forward, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        self._theirs.release()
        self._mine.acquire()
        if self._stop:
            raise _Stopped

    def advance(self) -> str | None:
        """Go on to the next call; its weight's name, or None at the end.

        Raises:
            Exception: whatever the forward pass raised.
        """
        if self._thread.is_alive():
            self._mine.release()
            self._theirs.acquire()
            if self.name is None:
                self._thread.join()
        if self._error is not None:
            raise self._error
        return self.name

    def close(self) -> None:
        """Give the pass up."""
        self._stop = True
        self._mine.release()
        self._thread.join()
