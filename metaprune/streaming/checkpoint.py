"""A folder of a transformers model, whose tensors are read when they are needed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from graphs.tools.documents import read_json, regular, told
from graphs.tools.files import FETCH, check_digests, write_safetensors, write_text

OTHERS = frozenset((".json", ".jinja", ".model", ".txt"))
"""Endings of the files that belong to a model beside its weights."""

INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors on disk.

    Args:
        folder: with config.json and safetensors.
        files: tensor name → file of the folder that holds it.
    """

    folder: Path
    files: Mapping[str, str]

    @classmethod
    def of(cls, folder: str | Path) -> Checkpoint:
        """Read which file holds which tensor; every file is opened, so that none is cut short.

        Raises:
            FileNotFoundError: no such folder, or a shard that its index names is missing.
            ValueError: no safetensors in it, an index that is none, or a file cut short.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {str(folder)!r}")
        if (folder / INDEX).is_file():
            files = _indexed(folder / INDEX)
        elif (folder / WHOLE).is_file():
            files = dict.fromkeys(_names(folder / WHOLE), WHOLE)
        else:
            raise ValueError(
                f"{str(folder)!r} has no {WHOLE} and no {INDEX}: give the folder of a model that "
                "save_pretrained wrote"
            )
        for name in sorted(set(files.values())):
            held = _names(folder / name)
            missing = next(
                (key for key, file in files.items() if file == name and key not in held), None
            )
            if missing is not None:
                raise ValueError(
                    f"{str(folder / name)!r} has no tensor {missing!r}, which the index names"
                )
        return cls(folder, files)

    def shapes(self, names: Iterable[str]) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype, as safetensors writes it, of tensors by name; none is read."""
        found: dict[str, tuple[tuple[int, ...], str]] = {}
        for file, keys in self._by_file(names).items():
            with safe_open(self.folder / file, framework="pt") as opened:
                for key in keys:
                    held = opened.get_slice(key)
                    found[key] = (tuple(held.get_shape()), str(held.get_dtype()))
        return found

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Tensors by name, on the CPU and in the dtype of the file."""
        found: dict[str, Tensor] = {}
        for file, keys in self._by_file(names).items():
            with safe_open(self.folder / file, framework="pt") as opened:
                held = {key: opened.get_tensor(key) for key in keys}
                check_digests(self.folder / file, held, opened.metadata() or {})
            found |= held
        return found

    def _by_file(self, names: Iterable[str]) -> dict[str, list[str]]:
        wanted: dict[str, list[str]] = {}
        for name in names:
            wanted.setdefault(self.files[name], []).append(name)
        return wanted


def _indexed(path: Path) -> dict[str, str]:
    content = read_json(path, FETCH, below=path.parent)
    with told(path, FETCH):
        files = {str(name): str(file) for name, file in content["weight_map"].items()}
    for file in set(files.values()):
        if Path(file).name != file:
            raise ValueError(f"{str(path)!r} names {file!r}, which is no file of its folder")
        if not (path.parent / file).is_file():
            raise FileNotFoundError(f"{str(path)!r} names the shard {file!r}, which is not there")
    return files


def _names(path: Path) -> set[str]:
    unreadable = "is not a readable safetensors file"
    with told(regular(path), FETCH, unreadable), safe_open(path, framework="pt") as file:
        return set(file.keys())


def write_shard(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file that transformers reads, whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_safetensors(path, plain, {"format": "pt"})


def assemble(
    source: Checkpoint, folder: Path, shards: Mapping[str, Iterable[str]], last: str
) -> None:
    """Make a folder with new shards a checkpoint: the tensors that none has, the index, and what is
    beside the weights (configuration, tokenizer, generation settings).

    Args:
        source: of everything else.
        folder: that holds the shards.
        shards: file → tensors in it.
        last: file for the tensors that are in none.
    """
    files = {key: file for file, keys in shards.items() for key in keys}
    rest = [key for key in source.files if key not in files]
    write_shard(folder / last, source.read(rest))
    files |= dict.fromkeys(rest, last)
    size = sum((folder / file).stat().st_size for file in {*shards, last})
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(files.items()))}
    write_text(folder / INDEX, json.dumps(index, indent=2))
    for path in sorted(source.folder.iterdir()):
        if path.is_file() and path.suffix in OTHERS and path.name != INDEX:
            shutil.copyfile(path, folder / path.name)
