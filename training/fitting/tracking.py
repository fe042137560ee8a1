"""Where figures of training go while it runs: accelerate's trackers (TensorBoard, MLflow, ...).

What is trained inside of `tracking(...)` logs there, however deep below it is called; outside of it
nothing is logged. `within` names the part of a run that figures are of: "finetune/loss".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.tracking import (
    LOGGER_TYPE_TO_CLASS,
    GeneralTracker,
    get_available_trackers,
)

from graphs.tools.registry import unknown

PROJECT = "metaprune"
"""What trackers call the project; TensorBoard's files lie in a folder of this name."""


@dataclass
class _Trackers:
    """Trackers of a run, which start when the first figure comes."""

    names: Sequence[str]
    folder: Path
    config: Mapping[str, Any]
    started: list[GeneralTracker] = field(default_factory=list)

    def log(self, values: Mapping[str, float], step: int) -> None:
        if not self.started:
            # Not before: whoever trains chooses the device, and this only asks which process it is.
            PartialState()
            for name in self.names:
                kind = LOGGER_TYPE_TO_CLASS[name]
                place = (str(self.folder),) if kind.requires_logging_directory else ()
                tracker = kind(PROJECT, *place)
                tracker.start()
                tracker.store_init_configuration(_flat(self.config))
                self.started.append(tracker)
        for tracker in self.started:
            tracker.log(dict(values), step=step)

    def finish(self) -> None:
        for tracker in self.started:
            tracker.finish()


_CURRENT: ContextVar[_Trackers | None] = ContextVar("trackers", default=None)
_PATH: ContextVar[tuple[str, ...]] = ContextVar("path", default=())


def check(names: Sequence[str]) -> None:
    """Refuse trackers that there are not.

    Args:
        names: "tensorboard", "wandb", "mlflow", "trackio", or another of accelerate's.

    Raises:
        ValueError: an unknown name, or one whose package is not installed.
    """
    known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
    for name in names:
        if name not in known:
            raise ValueError(unknown("tracker", name, known))
        if name not in map(str, get_available_trackers()):
            raise ValueError(f"tracker {name!r} is not installed: pip install {name}")


@contextmanager
def tracking(
    names: Sequence[str], folder: str | Path, config: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Log what is trained inside.

    Args:
        names: of trackers; none logs nothing.
        folder: for those that write files.
        config: settings of the run, which trackers show beside it.

    Raises:
        ValueError: see `check`.
    """
    check(names)
    if not names:
        yield
        return
    trackers = _Trackers(names, Path(folder), config or {})
    token = _CURRENT.set(trackers)
    try:
        yield
    finally:
        _CURRENT.reset(token)
        trackers.finish()


@contextmanager
def within(part: str) -> Iterator[None]:
    """Figures that are logged inside are of this part of the run."""
    token = _PATH.set((*_PATH.get(), part))
    try:
        yield
    finally:
        _PATH.reset(token)


def log(values: Mapping[str, float], step: int) -> None:
    """Log figures, where anybody asked for it.

    Args:
        values: name → figure.
        step: of the part that they are of.
    """
    trackers = _CURRENT.get()
    if trackers is not None:
        trackers.log({"/".join((*_PATH.get(), name)): v for name, v in values.items()}, step)


def _flat(config: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Settings by their full names; what trackers do not show as it is becomes text."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{path}{key}.")
        else:
            plain = isinstance(value, str | bool | int | float)
            found[f"{path}{key}"] = value if plain else str(value)
    return found
