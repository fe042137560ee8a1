"""Forward passes that stop at every layer, so that many batches go through a network side by side.

A layer can then be fitted to the inputs of all batches before any of them goes on. `Stepper` does
it with one forward pass a batch in all: every batch has a thread of its own, of which one runs at a
time, and its activations live until the end. `Rerun` begins every pass anew for each layer, and
keeps nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
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
        self.begun = False
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

    def advance(self) -> None:
        """Go on to the next call, or to the end, where there is no name.

        Raises:
            Exception: whatever the forward pass raised.
        """
        self.begun = True
        if self._thread.is_alive():
            self._mine.release()
            self._theirs.acquire()
            if self.name is None:
                self._thread.join()
        if self._error is not None:
            raise self._error

    def let_go(self) -> None:
        """The call is not needed any more; the pass keeps it until it goes on."""

    def close(self) -> None:
        """Give the pass up."""
        self._stop = True
        self._mine.release()
        self._thread.join()


class _ReachedError(Exception):
    """A pass came to the call that it was to come to."""


class Rerun:
    """As `Stepper`, but every pass begins anew, and only when its call is asked for.

    Args:
        model, batch, names, after: see `Stepper`.
    """

    def __init__(
        self, model: nn.Module, batch: Any, names: Mapping[int, str], *, after: bool = False
    ) -> None:
        self.begun = False
        self._model, self._batch, self._names, self._after = model, batch, names, after
        self._wanted, self._seen = 0, 0
        self._name: str | None = None
        self._call: Call | None = None
        self._output: torch.Tensor | None = None

    def advance(self) -> None:
        """Go on to the next call, or to the end, where there is no name."""
        self.begun = True
        self._wanted += 1

    @property
    def name(self) -> str | None:
        """Of the weight that is called; None at the end."""
        self._run()
        return self._name

    @property
    def call(self) -> Call | None:
        """The call; None at the end, and once it was let go."""
        self._run()
        return self._call

    @property
    def output(self) -> torch.Tensor | None:
        """Of the call, where the pass stops after it."""
        self._run()
        return self._output

    def let_go(self) -> None:
        """The call is not needed any more."""
        self._call = self._output = None

    def close(self) -> None:
        """Give the pass up."""
        self.let_go()

    def _run(self) -> None:
        """Come to the call that is wanted, from the start."""
        if self._seen == self._wanted:
            return
        self._seen, self._name, made = self._wanted, None, 0
        self.let_go()

        def reached(call: Call, output: torch.Tensor | None = None) -> None:
            nonlocal made
            name = self._names.get(id(call.weight))
            if name is None:
                return
            made += 1
            if made == self._wanted:
                self._name, self._call, self._output = name, call, output
                raise _ReachedError

        watch = LinearCalls(*((None, reached) if self._after else (reached, None)))
        with suppress(_ReachedError), torch.no_grad(), watch:
            run(self._model, self._batch)
