"""What a model is made of, and whether something else holds a part of it."""

from __future__ import annotations

import dis
import functools
import gc
import weakref
from collections.abc import Container, Iterator
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FrameType,
    FunctionType,
    MethodType,
    ModuleType,
    NoneType,
)
from typing import Any

import torch
from torch import nn

_LEAVES = (int, float, complex, str, bytes, NoneType, type, ModuleType, CodeType, FrameType)
# What is made elsewhere and only refers to the model: closures, and references that keep nothing.
_REFERRING = (FunctionType, CellType, BuiltinFunctionType, functools.partial)


class Holdings:
    """The objects of a model: its modules, tensors, and what they keep in attributes.

    Args:
        model: any module.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.own: dict[int, Any] = {}
        self.others: dict[int, Any] = {}  # known to hold nothing of the model
        left: list[Any] = [model]
        while left:
            value = left.pop()
            referring = isinstance(value, _REFERRING) or _referent(value) is not None
            if isinstance(value, _LEAVES) or referring or id(value) in self.own:
                continue
            if not isinstance(value, tuple | MethodType):
                self.own[id(value)] = value
            left.extend(_held(value))

    def holds(self, value: Any) -> bool:
        """Whether a value is of the model, or holds what is, itself or through what it holds."""
        seen: dict[int, Any] = {}
        if self._leads(value, self.own, seen):
            return True
        self.others.update(seen)
        return False

    def _leads(self, value: Any, to: Container[int], seen: dict[int, Any]) -> bool:
        """Whether one of some ids is found from a value on; all that was seen otherwise."""
        left = [value]
        while left:
            one = left.pop()
            if id(one) in to:
                return True
            if isinstance(one, _LEAVES) or id(one) in seen or id(one) in self.others:
                continue
            seen[id(one)] = one
            left.extend(_held(one))
        return False

    def needs(self, value: Any) -> bool:
        """Whether an object leads to a module, a tensor or a container of the model."""
        parts: set[int] = set()
        for module in self.model.modules():
            tensors = (*module._parameters.values(), *module._buffers.values())
            held = (v for v in vars(module).values() if isinstance(v, dict | list | set))
            parts.update(id(one) for one in (module, *tensors, *held) if one is not None)
        return any(self._leads(one, parts, {}) for one in _held(value))

    def place(self, value: Any) -> str:
        """Where in the model a value is: `attribute lock of body.1 (Conv2d)`."""
        for path, module in self.model.named_modules():
            if module is value:
                return f"module {path or 'itself'} ({type(module).__name__})"
            for name, entry in vars(module).items():
                inside = entry if isinstance(entry, dict | list | tuple) else ()
                entries = inside.values() if isinstance(inside, dict) else inside
                if entry is value or any(one is value for one in entries):
                    owner = f"{path} ({type(module).__name__})" if path else "the model"
                    return f"attribute {name} of {owner}"
        return f"{type(value).__name__}"

    def named_globally(self, function: FunctionType) -> str | None:
        """The global name by which a function reads a module or parameter of the model."""
        around = function.__globals__
        if not any(id(around.get(name)) in self.own for name in function.__code__.co_names):
            return None  # the usual case; names of attributes are among them
        for read in dis.get_instructions(function):
            found = around.get(read.argval) if read.opname == "LOAD_GLOBAL" else None
            if isinstance(found, nn.Module | torch.Tensor) and id(found) in self.own:
                name: str = read.argval
                return name
        return None


def attached(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """(module path, callable) of all hooks, and of functions put on instances of modules."""
    for path, module in model.named_modules():
        for entry in list(vars(module).values()):
            for one in entry.values() if isinstance(entry, dict) else (entry,):
                if callable(one) and not isinstance(one, nn.Module | type):
                    yield path, one


def described(function: Any) -> str:
    """`keep.<locals>.hook (net.py:12)`: the name of a callable, and its place where it has one."""
    while isinstance(function, functools.partial | MethodType):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    function = getattr(function, "__wrapped__", function)
    name = getattr(function, "__qualname__", type(function).__name__)
    code = getattr(function, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


def empty(cell: CellType) -> bool:
    """Whether a cell has no contents yet."""
    try:
        _ = cell.cell_contents
    except ValueError:
        return True
    return False


def _held(value: Any) -> list[Any]:
    """What a value holds: entries, attributes, what a function is closed over or given."""
    if isinstance(value, FunctionType):
        given = (value.__closure__, value.__defaults__, value.__kwdefaults__, vars(value))
        return [one for one in given if one is not None]
    if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
        return []  # a history would lead to whatever it was computed from
    if isinstance(value, nn.Parameter):
        return [vars(value)]
    referent = _referent(value)
    return gc.get_referents(value) if referent is None else [referent]


def _referent(value: Any) -> Any:
    """What a weak reference refers to; None where it is none, or nothing is there any more."""
    if isinstance(value, weakref.ReferenceType):
        return value()
    if type(value) in weakref.ProxyTypes:
        return value.__init__.__self__
    return None
