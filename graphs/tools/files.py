"""Files and folders that are written whole or not at all.

A failure, or an interruption, leaves what was there before. Whoever may read other new files of the
process may read these, whatever the library that writes them thinks of it (safetensors lets nobody
but the owner).
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_PAIRS = "complex128"
"""Metadata: names of tensors that are written as pairs of real numbers."""


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A place to write a file to, which takes its name only when everything is in it.

    Args:
        path: of the file; its folder is made where it is missing, and what it held is replaced.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.chmod(_usual_mode(temporary))
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Any = None
) -> None:
    """Write tensors to a safetensors file, and a JSON value beside them, whole or not at all.

    Tensors that share memory (tied weights) must be given once.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    said = {"json": json.dumps(metadata)}
    pairs = [name for name, tensor in plain.items() if tensor.dtype == torch.complex128]
    if pairs:  # safetensors knows complex numbers in single precision only
        plain |= {name: torch.view_as_real(plain[name]) for name in pairs}
        said[_PAIRS] = json.dumps(pairs)
    with whole_file(path) as temporary:
        save_file(plain, temporary, metadata=said)


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], Any]:
    """Read what `write_tensors` wrote, or any safetensors file (metadata None).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            said = file.metadata() or {}
        for name in json.loads(said.get(_PAIRS, "[]")):
            tensors[name] = torch.view_as_complex(tensors[name])
        metadata = json.loads(said.get("json", "null"))
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{str(path)!r} is not a readable safetensors file ({error}); it was cut off or "
            f"damaged: fetch or make it again"
        ) from error
    return tensors, metadata


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
        mode = _usual_mode(temporary / "mode")
        for path in temporary.rglob("*"):
            if path.is_file():
                path.chmod(mode)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _usual_mode(beside: Path) -> int:
    """Permissions that the umask gives a new file; only making one tells without changing it."""
    probe = beside.with_name(f".{beside.name}.mode")
    descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
        probe.unlink()
