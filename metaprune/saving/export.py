"""Pruned networks for other runtimes: torch.export and ONNX files, verified against the module.

    result.export("model.onnx")     runs in onnxruntime and whatever else reads ONNX
    result.export("model.pt2")      runs wherever torch does, without the class

The file appears only when it computed what the module computes, on the example inputs and on
another number of examples; sizes of inputs for which it would compute something else are
refused by it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Collection, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs.build.compare import agree, other_sizes, resized
from graphs.build.search import EXPERTS
from graphs.calls.copying import working_copy
from graphs.calls.modes import own_modes
from graphs.calls.running import Inputs, as_inputs, outputs, quiet_evaluation
from graphs.tools.files import scratch
from graphs.tools.switches import Switch
from metaprune.saving.archive import open_sizes, save_program, written_program

Run = Callable[[Inputs], list[torch.Tensor]]

_TALKATIVE = ("torch.onnx", "onnx", "torch.export", "torch.fx.experimental.symbolic_shapes")

MOST_INSIDE = 1 << 30
"""Bytes of weights up to which an ONNX file holds them itself; above, they lie beside it."""


@own_modes()
def export_model(
    model: nn.Module, example_inputs: Any, path: str | os.PathLike[str], format: str | None = None
) -> Path:
    """Write a module as a program that runs without its class.

    Args:
        model: any module that `torch.export` accepts; exported in evaluation mode, left as it was.
        example_inputs: tuple of arguments or dict of keywords; sizes that the model does not fix
            stay open in the program.
        path: of the file; its ending tells the format where `format` is None. What it held is
            replaced.
        format: "onnx" or "pt2".

    Returns:
        The path.

    Raises:
        ValueError: an unknown format; a module that cannot be exported; a program that computes
            something else.
        ImportError: for ONNX, without the packages of the extra `onnx`.
    """
    target = Path(path)
    kind = format or target.suffix.removeprefix(".")
    check(kind)
    inputs, model = as_inputs(example_inputs), working_copy(model)
    with scratch(target) as inside:
        with _exportable(model):
            run = FORMATS[kind](model, inputs, inside / target.name)
        _verify(model, inputs, run, kind)
        for file in sorted(inside.iterdir(), reverse=True):  # Weights before what refers to them.
            os.replace(file, target.parent / file.name)
    return target


def check(format: str) -> None:
    """Refuse a format that is unknown or cannot be written here, before any work.

    Raises:
        ValueError: an unknown format.
        ImportError: for ONNX, without the packages of the extra `onnx`.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}: expected one of {', '.join(FORMATS)}")
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if format == "onnx" and missing:
        raise ImportError(
            f"ONNX export needs the package {missing[0]}: pip install 'metaprune[onnx]'"
        )


def _to_pt2(model: nn.Module, inputs: Inputs, path: Path) -> Run | None:
    args, kwargs = inputs
    try:
        with QUIET:
            save_program(model, args or kwargs, path)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"torch.export cannot export the model: {_line(error)}") from error
    program = written_program(path)

    def run(given: Inputs) -> list[torch.Tensor]:
        found = outputs(program, given)
        if isinstance(found, Exception):
            raise found
        return found

    return run


def _to_onnx(model: nn.Module, inputs: Inputs, path: Path) -> Run | None:
    run = _onnx(model, inputs, path)
    # ONNX has no guards: sizes that it gives wrong answers for are no longer open.
    wrong = set() if run is None else _misread(model, inputs, run)
    return _onnx(model, inputs, path, wrong) if wrong else run


def _onnx(model: nn.Module, inputs: Inputs, path: Path, closed: Collection[int] = ()) -> Run | None:
    args, kwargs, shapes = open_sizes(inputs, closed)
    with quiet_evaluation(model), torch.no_grad(), QUIET:
        try:
            program: Any = torch.onnx.export(
                model, args, kwargs=kwargs, dynamic_shapes=shapes, dynamo=True, verbose=False
            )
        except Exception as error:
            raise ValueError(f"the model cannot be exported to ONNX: {_line(error)}") from error
        size = sum(p.numel() * p.element_size() for p in (*model.parameters(), *model.buffers()))
        program.save(str(path), external_data=size > MOST_INSIDE)
    if find_spec("onnxruntime") is None:
        warnings.warn(
            "the ONNX file was not run, because onnxruntime is not installed: "
            "pip install 'metaprune[onnx]'",
            stacklevel=3,
        )
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def run(given: Inputs) -> list[torch.Tensor]:
        leaves = [v for v in pytree.tree_leaves(given) if isinstance(v, torch.Tensor)]
        arrays = {name: leaf.cpu().numpy() for name, leaf in zip(names, leaves, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, arrays)]

    return run


def _misread(model: nn.Module, inputs: Inputs, run: Run) -> set[int]:
    """The sizes of inputs in whose place a program takes others and answers otherwise."""
    wrong = set()
    for size, given in other_sizes(inputs, _examples_in(inputs)):
        try:
            found = run(given)
        except Exception:  # whatever a runtime refuses inputs with
            continue
        if not agree(found, _on_cpu(outputs(model, given))):
            wrong.add(size)
    return wrong


FORMATS: dict[str, Callable[[nn.Module, Inputs, Path], Run | None]] = {
    "onnx": _to_onnx,
    "pt2": _to_pt2,
}


def _verify(model: nn.Module, inputs: Inputs, run: Run | None, kind: str) -> None:
    """Compare a program with its module.

    Raises:
        ValueError: they differ.
    """
    if run is None:
        return
    for given in (inputs, resized(inputs, _examples_in(inputs))):
        expected = _on_cpu(outputs(model, given))
        if isinstance(expected, Exception):
            continue  # The model itself takes no other number of examples.
        try:
            found: list[torch.Tensor] | Exception = run(given)
        except Exception as error:
            found = error
        if not agree(found, expected):
            reason = f" ({_line(found)})" if isinstance(found, Exception) else ""
            raise ValueError(
                f"the {kind} program does not compute what the model computes{reason}, so nothing "
                "was written; please report the model"
            )


def _examples_in(inputs: Inputs) -> int:
    """Number of examples: the first dimension of the first tensor that has one."""
    tensors = (v for v in pytree.tree_leaves(inputs) if isinstance(v, torch.Tensor))
    return next((tensor.shape[0] for tensor in tensors if tensor.dim()), 1)


def _on_cpu(found: list[torch.Tensor] | Exception) -> list[torch.Tensor] | Exception:
    return found if isinstance(found, Exception) else [value.cpu() for value in found]


@contextlib.contextmanager
def _exportable(model: nn.Module) -> Iterator[None]:
    """Mixtures of experts in a way that can be exported: all at once, not in a loop over values."""
    configs = {id(c): c for m in model.modules() if (c := vars(m).get("config")) is not None}
    loops = [c for c in configs.values() if getattr(c, EXPERTS, None) == "eager"]
    for config in loops:
        setattr(config, EXPERTS, "batched_mm")
    try:
        yield
    finally:
        for config in loops:
            setattr(config, EXPERTS, "eager")


@contextlib.contextmanager
def _without_account() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    aside = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(aside),
        contextlib.redirect_stderr(aside),
    ):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, before in zip(loggers, levels, strict=True):
                logger.setLevel(before)


QUIET = Switch(_without_account)
"""Without the exporter's account of its progress, and its warnings about itself."""


def _line(error: BaseException) -> str:
    """The first line of what was wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]
