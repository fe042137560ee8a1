"""Files of others at the door: what cannot be read is refused in words, whatever is in it.

    read_json(path, "save the result again")     its content, or a FileError that says what to do
    regular(path, below=folder)                  the path, if it is a plain file in the folder

Nothing in a file is run, no link leads out of a folder, and no file makes a reader wait or take
more memory than its bytes account for.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST = 32 << 20
"""Bytes of the largest text that is read."""
INSIDE = 1_000_000
"""Lists and mappings of the largest JSON text: making many takes far longer than their bytes do."""
SHOWN = 400
"""Characters of what went wrong that are shown."""


class FileError(ValueError):
    """A file or folder that cannot be used; says which, where in it, and what to do."""


def regular(path: str | os.PathLike[str], below: str | os.PathLike[str] | None = None) -> Path:
    """The path, if there is a plain file.

    Args:
        path: of the file.
        below: folder that it must lie in, where links may lead, too.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: it is a folder, a pipe or a device, or a link that leads out of the folder.
    """
    found = Path(path)
    try:
        kind = os.stat(found).st_mode
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file {str(path)!r}") from error
    except (OSError, ValueError) as error:  # a loop of links, a part that is a file, a NUL
        raise FileError(f"{str(path)!r} cannot be read ({error})") from error
    if not stat.S_ISREG(kind):
        raise FileError(f"{str(path)!r} is no plain file but {_KINDS[stat.S_IFMT(kind)]}")
    if below is not None and not found.resolve().is_relative_to(Path(below).resolve()):
        raise FileError(
            f"{str(path)!r} is a link out of its folder, to {str(found.resolve())!r}; put a copy "
            "of that file there if you trust it"
        )
    return found


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_text(
    path: str | os.PathLike[str], remedy: str, below: str | os.PathLike[str] | None = None
) -> str:
    """A text file in UTF-8.

    Args:
        path: of the file.
        remedy: what to do about a damaged one: "save the result again".
        below: folder that it must lie in.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: it is no plain file, no text, or too large.
    """
    found = regular(path, below)
    try:
        size = found.stat().st_size
        if size > MOST:
            raise FileError(
                f"{str(path)!r} is too large for a text: {size:,} bytes, at most {MOST:,}; {remedy}"
            )
        return found.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FileError(f"{str(path)!r} is damaged: it is no text ({error}); {remedy}") from error
    except OSError as error:
        raise FileError(f"{str(path)!r} cannot be read ({error})") from error


def read_json(
    path: str | os.PathLike[str], remedy: str, below: str | os.PathLike[str] | None = None
) -> Any:
    """The content of a JSON file; see `read_text` for its arguments.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: it is none of JSON; says where.
    """
    text = read_text(path, remedy, below)
    with told(path, remedy):
        return parse_json(text)


def parse_json(text: str) -> Any:
    """The value that a JSON text says.

    Raises:
        ValueError: it is none, says a key twice, is nested too deeply, holds half a character or
            too many lists.
    """
    if text.count("[") + text.count("{") > INSIDE:
        raise ValueError(f"it holds more than {INSIDE:,} lists and mappings")
    try:
        found = json.loads(text, object_pairs_hook=_once)
        if "\\ud" in text.lower():
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise ValueError(
            f"not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from error
    except UnicodeEncodeError as error:
        raise ValueError(f"a text holds half a character ({error.reason})") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A mapping whose keys are all said once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f'the key "{twice}" is there twice')
    return found


@contextmanager
def told(path: str | os.PathLike[str], remedy: str, what: str = "is damaged") -> Iterator[None]:
    """What is wrong with the content of a file, told with its name and what to do.

    Errors that are about a file already pass as they are.

    Args:
        path: of the file or folder.
        remedy: what to do.
        what: is the matter with it.

    Raises:
        FileError: in the place of what reading a damaged file raises.
    """
    try:
        yield
    except (FileError, FileNotFoundError, ModuleNotFoundError):
        raise
    except Exception as error:  # whatever a damaged file makes a reader raise
        raise FileError(f"{str(path)!r} {what}: {reason(error)}; {remedy}") from error


def reason(error: Exception) -> str:
    """Why something failed, on one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text[:SHOWN].rstrip(".; ")
