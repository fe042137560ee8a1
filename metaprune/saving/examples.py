"""Example inputs in a folder: the tensors in a file, and what stands around them as JSON.

Arguments may be nested in tuples, lists and dictionaries of words. Anything else (an object of the
caller's) is not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from graphs.calls.running import as_inputs
from graphs.tools.files import read_tensors, write_tensors

_VALUES = (bool, int, float, str, type(None))
DEEPEST = 16
"""Most levels of nesting."""


def plain(example_inputs: Any) -> bool:
    """Whether inputs can be written."""
    return all(_plain(value, 0) for value in as_inputs(example_inputs))


def _plain(value: Any, depth: int) -> bool:
    if type(value) in (tuple, list, dict) and depth < DEEPEST:
        words = value if isinstance(value, dict) else ()
        inside = value.values() if isinstance(value, dict) else value
        return all(type(w) is str for w in words) and all(_plain(v, depth + 1) for v in inside)
    return isinstance(value, torch.Tensor) or type(value) in _VALUES


def write_example(example_inputs: Any, path: Path) -> dict[str, Any]:
    """Write the tensors; return what stands around them.

    Args:
        example_inputs: that are `plain`.
        path: of the file with the tensors.
    """
    tensors: dict[str, torch.Tensor] = {}

    def entry(name: str, value: Any) -> dict[str, Any]:
        if isinstance(value, torch.Tensor):
            tensors[name] = value.clone()
            return {"tensor": name}
        if isinstance(value, dict):
            return {"dict": {key: entry(f"{name}.{key}", v) for key, v in value.items()}}
        if isinstance(value, tuple | list):
            inside = [entry(f"{name}.{i}", v) for i, v in enumerate(value)]
            return {type(value).__name__: inside}
        return {"value": value}

    args, kwargs = as_inputs(example_inputs)
    content = {
        "args": [entry(f"args.{i}", value) for i, value in enumerate(args)],
        "kwargs": {key: entry(f"kwargs.{key}", value) for key, value in kwargs.items()},
    }
    write_tensors(path, tensors)
    return content


def read_example(path: Path, content: Mapping[str, Any]) -> Any:
    """Read what `write_example` wrote: a tuple of arguments, or a dict of keywords.

    Args:
        path: of the file with the tensors.
        content: what stands around them.

    Raises:
        ValueError: the content names what is not there.
    """
    tensors = read_tensors(path, below=path.parent)[0]

    def value(entry: Any, depth: int = 0) -> Any:
        kind, held = next(iter(entry.items()))
        if kind == "tensor":
            return tensors[held]
        if kind == "value":
            return held
        if depth > DEEPEST:
            raise ValueError("it is nested too deeply")
        if kind == "dict":
            return {key: value(inside, depth + 1) for key, inside in held.items()}
        return {"tuple": tuple, "list": list}[kind](value(one, depth + 1) for one in held)

    try:
        args = tuple(map(value, content["args"]))
        return args or {key: value(entry) for key, entry in content["kwargs"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise ValueError(
            f"the example inputs beside {str(path)!r} are damaged ({error}); save the result again"
        ) from error
