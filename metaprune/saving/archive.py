"""Exported programs on disk, opened without executing anything that is in the file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs.calls.copying import working_copy
from graphs.calls.export import open_dimensions
from graphs.calls.running import Inputs, as_inputs, quiet_evaluation
from graphs.program.module import ExportedModule


def save_program(model: nn.Module, example_inputs: Any, path: Path) -> None:
    """Export a module with all sizes open that it does not fix, and write the program.

    Args:
        model: any module that `torch.export` accepts; left as it was.
        example_inputs: tuple of arguments or dict of keywords.
        path: of the .pt2 file.
    """
    args, kwargs, shapes = open_sizes(as_inputs(example_inputs))
    model = working_copy(model)
    with quiet_evaluation(model), torch.no_grad():
        program = torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)
    torch.export.save(program, path)


def open_sizes(
    inputs: Inputs, closed: Collection[int] = ()
) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """What `torch.export` takes to leave the sizes of the inputs open: args, kwargs, shapes.

    A batch of one is doubled, because export bakes the number 1 in.

    Args:
        inputs: (args, kwargs) of the forward.
        closed: sizes that stay as they are, in every dimension that has one of them.
    """
    args, kwargs = pytree.tree_map_only(torch.Tensor, _two, inputs)

    def opened(value: Any) -> Any:
        dims = open_dimensions(value, every=True)
        return dims and {d: how for d, how in dims.items() if value.shape[d] not in closed}

    return args, kwargs, pytree.tree_map(opened, args or kwargs)


def load_program(path: Path) -> nn.Module:
    """The module of a program that `save_program` wrote, in evaluation mode; it can be trained.

    Raises:
        ValueError: the file is damaged, or opening it would run code.
    """
    try:
        check_safe(path)
        program = torch.export.load(path)
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, RuntimeError) as error:
        raise ValueError(f"{str(path)!r} is not a readable exported program ({error})") from error
    found = program.module(check_guards=True)
    return ExportedModule(found, found.graph).train(False)


def check_safe(path: Path) -> None:
    """Refuse an archive whose opening would unpickle more than plain tensors.

    Raises:
        ValueError: it holds pickled weights, objects, or inputs that are not plain tensors.
    """
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("_config.json"):
                entries = json.loads(archive.read(name)).get("config", {})
                pickled = [key for key, entry in entries.items() if entry.get("use_pickle")]
                if pickled:
                    raise ValueError(
                        f"{str(path)!r} holds pickled objects ({pickled[0]}), which could run "
                        "code; it is not opened"
                    )
            if "/sample_inputs/" in name:
                try:
                    torch.load(io.BytesIO(archive.read(name)), weights_only=True)
                except Exception as error:
                    raise ValueError(
                        f"the sample inputs in {str(path)!r} are more than plain tensors and could "
                        "run code; it is not opened"
                    ) from error


def _two(value: torch.Tensor) -> torch.Tensor:
    """A batch of one doubled: export would bake the number 1 in."""
    return torch.cat([value, value]) if value.dim() and value.shape[0] == 1 else value
