"""Folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def refuse_filled(path: str | os.PathLike[str]) -> None:
    """Refuse a place that a new folder cannot take.

    Raises:
        FileExistsError: there is a file, or a folder with something in it, of that name.
    """
    target = Path(path).resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{str(path)!r} exists and is not empty; choose another folder")


@contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder to write into, which takes its name only when everything is in it.

    Args:
        path: the folder to make; an empty folder of that name is replaced.

    Raises:
        FileExistsError: there is a file, or a folder with something in it, of that name.
    """
    refuse_filled(path)
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
