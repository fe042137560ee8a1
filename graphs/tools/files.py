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
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from graphs.tools.digests import digest, tensor_digest
from graphs.tools.documents import MOST, FileError, parse_json, regular, told

_PAIRS = "complex128"
"""Metadata: names of tensors that are written as pairs of real numbers."""
_DIGESTS = "digests"
"""Metadata: tensor name → digest; under the empty name that of all other metadata."""
FETCH = "it was cut off or damaged: fetch or make it again"


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
    write_safetensors(path, plain, said)


def write_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], said: Mapping[str, str]
) -> None:
    """Write a safetensors file with a digest of every tensor in it, whole or not at all.

    Args:
        path: of the file.
        tensors: on the CPU, contiguous, each with memory of its own.
        said: the texts of its header.
    """
    digests = {name: tensor_digest(name, tensor) for name, tensor in tensors.items()}
    digests[""] = digest(*chain(*sorted(said.items())))
    with whole_file(path) as temporary:
        save_file(dict(tensors), temporary, metadata={**said, _DIGESTS: json.dumps(digests)})


def read_tensors(
    path: str | os.PathLike[str], below: str | os.PathLike[str] | None = None
) -> tuple[dict[str, Tensor], Any]:
    """Read what `write_tensors` wrote, or any safetensors file (metadata None).

    Args:
        path: of the file.
        below: folder that it must lie in.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: it is damaged, and in which tensor; or it is no plain file, or elsewhere.
    """
    tensors, said = read_safetensors(path, below)
    with told(path, FETCH):
        for name in parse_json(said.get(_PAIRS, "[]")):
            tensors[name] = torch.view_as_complex(tensors[name])
        return tensors, parse_json(said.get("json", "null"))


def read_safetensors(
    path: str | os.PathLike[str], below: str | os.PathLike[str] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file and the texts of its header; see `read_tensors`.

    Tensors are compared with their digests, where the file has some.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: it is damaged, and in which tensor; or it is no plain file, or elsewhere.
    """
    path = regular(path, below)
    with told(path, FETCH, "is not a readable safetensors file"):
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > MOST:
            raise ValueError(f"its header would have {header:,} bytes")
        with safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            said = dict(opened.metadata() or {})
        check_digests(path, tensors, said)
    return tensors, said


def check_digests(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], said: Mapping[str, str]
) -> None:
    """Compare tensors of a safetensors file with the digests in its header, where it has some.

    Args:
        path: of the file.
        tensors: some or all of it.
        said: the texts of its header.

    Raises:
        FileError: names the tensor that is another one than was written.
    """
    if _DIGESTS not in said:
        return
    digests = dict(parse_json(said[_DIGESTS]))
    own = {key: text for key, text in said.items() if key != _DIGESTS}
    if digests.pop("", None) != digest(*chain(*sorted(own.items()))):
        raise FileError(f"{str(path)!r} is damaged: its header was changed; {FETCH}")
    for name, tensor in tensors.items():
        if digests.get(name) != tensor_digest(name, tensor):
            raise FileError(
                f'{str(path)!r} is damaged: the tensor "{name}" is not the one that was written '
                f"(its digest differs); {FETCH}"
            )


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
