"""Files and folders that are written whole or not at all.

A failure, or an interruption, leaves what was there before. Whoever may read other new files of the
process may read these, whatever the library that writes them thinks of it (safetensors lets nobody
but the owner).
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from graphs.tools.digests import digest, tensor_digest
from graphs.tools.documents import MOST, FileError, parse_json, regular, told

try:
    import fcntl
except ImportError:  # no POSIX: what killed processes leave there stays
    fcntl = None  # type: ignore[assignment]

UNFINISHED = ".unfinished"
"""Ending of the names of folders in which something is being made."""
MOST_TENSORS = 1 << 16
"""Tensors in a file."""
LONGEST = 80
"""Characters of a target's name in them."""
_JSON = "json"
"""Metadata: the JSON value of `write_tensors`."""
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
    with scratch(target) as place:
        temporary = place / target.name
        yield temporary
        temporary.chmod(_usual_mode(place))
        os.replace(temporary, target)


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
    said = {_JSON: json.dumps(metadata)}
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
        try:
            save_file(
                dict(tensors),
                temporary,
                metadata={**said, _DIGESTS: json.dumps(digests, sort_keys=True)},
            )
        except SafetensorError as error:  # it has the number of the error in its text alone
            full = re.search(r"os error (\d+)", str(error))
            number = int(full[1]) if full else errno.EIO
            raise OSError(number, f"{str(path)!r} cannot be written ({error})") from error
        _in_order(temporary)


def _in_order(path: Path) -> None:
    """Write the texts of a header in their order: safetensors writes them in one of chance."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))


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
    if _JSON in said and not said.keys() <= {_JSON, _PAIRS, _DIGESTS}:
        raise FileError(f"{str(path)!r} is damaged: its header was changed; {FETCH}")
    with told(path, FETCH):
        for name in parse_json(said.get(_PAIRS, "[]")):
            tensors[name] = torch.view_as_complex(tensors[name])
        return tensors, parse_json(said.get(_JSON, "null"))


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
            names = list(opened.keys())
            if len(names) > MOST_TENSORS:
                raise ValueError(f"it has {len(names):,} tensors, and {MOST_TENSORS:,} is the most")
            tensors = {name: opened.get_tensor(name) for name in names}
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
    with scratch(target) as place:
        temporary = place / target.name
        temporary.mkdir()
        yield temporary
        mode = _usual_mode(place)
        for path in temporary.rglob("*"):
            if path.is_file():
                path.chmod(mode)
        os.replace(temporary, target)


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """A hidden folder beside a file or folder that is being made; nothing of it stays.

    Its maker holds a lock on it, which ends with the process: what killed ones left is told by
    that, whatever process has their number now, and removed (`sweep`).

    Args:
        target: what is made.

    Raises:
        OSError: there is no place for it, or it cannot be written; names the target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent)
    start = f".{target.name[:LONGEST]}."
    place = Path(tempfile.mkdtemp(UNFINISHED, start, target.parent))
    try:
        with _locked(place):
            yield place
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise OSError(
                error.errno,
                f"{os.strerror(error.errno)}: {str(target)!r} was not written; make room, or "
                "choose another place",
            ) from error
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder; what is being made there now stays."""
    for left in folder.glob(f".*{UNFINISHED}"):
        with _locked(left) as dead:
            if dead:
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether this process has the lock of a folder now; where there are no locks, it has not."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # somebody else removed it
        yield False
        return
    try:
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held by who makes it
            yield False
            return
        yield fcntl is not None
    finally:
        os.close(descriptor)


def _usual_mode(place: Path) -> int:
    """Permissions that the umask gives a new file; only making one tells without changing it."""
    probe = place / ".mode"
    descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
        probe.unlink()
