"""torch.export programs: how a module is exported, and the .pt2 files of `Result.export`.

A .pt2 file is opened here only where it has just been written; nothing in a saved folder is one.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from graphs.calls.copying import working_copy
from graphs.calls.export import open_dimensions
from graphs.calls.running import Inputs, as_inputs, quiet_evaluation
from graphs.program.module import ExportedModule


def exported(model: nn.Module, example_inputs: Any) -> ExportedProgram:
    """A module as a program with all sizes open that it does not fix.

    Args:
        model: any module that `torch.export` accepts; left as it was.
        example_inputs: tuple of arguments or dict of keywords.
    """
    args, kwargs, shapes = open_sizes(as_inputs(example_inputs))
    model = working_copy(model)
    with quiet_evaluation(model), torch.no_grad():
        return torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)


def save_program(model: nn.Module, example_inputs: Any, path: Path) -> None:
    """Write an exported module; see `exported`.

    Args:
        model: any module that `torch.export` accepts; left as it was.
        example_inputs: tuple of arguments or dict of keywords.
        path: of the .pt2 file.
    """
    # Written by torch itself, a full disk would end the process instead of raising.
    written = io.BytesIO()
    torch.export.save(exported(model, example_inputs), written)
    path.write_bytes(written.getbuffer())


def written_program(path: Path) -> nn.Module:
    """The module of a program that this process wrote, in evaluation mode.

    `torch.export.load` unpickles and evaluates what is in a file, so it gets no file of others.
    """
    found = torch.export.load(path).module(check_guards=True)
    return ExportedModule(found, found.graph).train(False)


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


def _two(value: torch.Tensor) -> torch.Tensor:
    """A batch of one doubled: export would bake the number 1 in."""
    return torch.cat([value, value]) if value.dim() and value.shape[0] == 1 else value
