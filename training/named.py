"""Functions by name: of an installed package, or of a file of the user's own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from graphs.tools.registry import unknown


def function_named(reference: str) -> Callable[..., Any]:
    """The function (or class) that a text means.

        function_named("torchvision.models:resnet50")
        function_named("my_models/net.py:make")

    Args:
        reference: `package.module:function`, or `path/to/file.py:function` from the current folder.

    Raises:
        ValueError: there is no such module, file or function; says which of them is missing.
    """
    place, colon, name = reference.rpartition(":")
    if not colon or not place or not name:
        raise ValueError(
            f"{reference!r} names no function: write it as package.module:function, or as "
            "path/to/file.py:function"
        )
    try:
        module = _module_of(Path(place)) if place.endswith(".py") else import_module(place)
    except (ImportError, ValueError, TypeError) as error:
        raise ValueError(
            f"there is no function {reference!r} ({error}); write it as package.module:function, "
            "or as path/to/file.py:function"
        ) from error
    if not hasattr(module, name):
        there = [n for n, thing in vars(module).items() if callable(thing) and n[0] != "_"]
        raise ValueError(f"there is no function {reference!r}: {unknown('name', name, there)}")
    found = getattr(module, name)
    if not callable(found):
        raise ValueError(f"{reference!r} is no function (got {type(found).__name__})")
    return found


def _module_of(path: Path) -> ModuleType:
    """The module of a file, which may import what lies beside it; executed once.

    Raises:
        ValueError: there is no such file.
    """
    path = path.resolve()
    if not path.is_file():
        raise ValueError(f"no file {str(path)!r}")
    name = path.stem
    there = sys.modules.get(name)
    if there is not None and getattr(there, "__file__", None) == str(path):
        return there
    if there is not None:
        # Another module has this name: the file gets one that tells where it is.
        name = str(path.with_suffix("")).replace("/", "_").replace(".", "_")
        if name in sys.modules:
            return sys.modules[name]
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
