"""Where in the user's code something happens: file and line, for reasons and errors."""

from __future__ import annotations

import linecache
import re
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

_OURS = (str(Path(torch.__file__).parent) + "/", str(Path(__file__).parent) + "/", "<")
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


@dataclass(frozen=True)
class Place:
    """A line of code.

    Args:
        file: as in the traceback.
        line: counted from 1.
    """

    file: str
    line: int

    @property
    def code(self) -> str:
        """The line itself, "" where the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{_short(self.file)}:{self.line}"


def place_of_stack(stack_trace: str | None) -> Place | None:
    """The innermost line outside torch of a stack as fx nodes carry it (`meta["stack_trace"]`)."""
    found = _FRAME.finditer(stack_trace or "")
    return _innermost(Place(m["file"], int(m["line"])) for m in found)


def place_of_error(error: BaseException) -> Place | None:
    """The innermost line outside torch and this package from which an error came.

    Where the error has none, those that it was raised from are looked at.
    """
    for one in _chain(error):
        frames = traceback.extract_tb(one.__traceback__)
        place = _innermost(Place(f.filename, f.lineno or 0) for f in frames)
        if place is not None:
            return place
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__


def _innermost(places: Iterable[Place]) -> Place | None:
    users = [p for p in places if not p.file.startswith(_OURS)]
    return users[-1] if users else None


@cache
def _short(file: str) -> str:
    """Relative to the packages or to the current folder where the file is inside, else as it is."""
    path = Path(file)
    parts = path.parts
    if "site-packages" in parts:
        at = len(parts) - 1 - parts[::-1].index("site-packages")
        return "/".join(parts[at + 1 :])
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except (ValueError, OSError):
        return file
