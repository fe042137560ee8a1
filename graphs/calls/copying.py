"""Copies of module trees that run nothing of what they were copied from.

    copy_module(model, replaced)    tensors are replaced as one says, all else is copied
    working_copy(model)             parameters over the same memory, buffers of its own

`copy.deepcopy` shares functions, and with them what they are closed over: a hook that keeps what it
sees in `self`, a forward wrapped on the instance. A copy that has them goes on running the
original. Here functions, partial applications, methods and weak references that hold something of
the model hold the copy's; what cannot follow is refused, and `graphs.calls.independence` watches
the first run. What is outside of the model and holds nothing of it (files, locks, loggers, a
dictionary of the caller's) is shared.
"""

from __future__ import annotations

import copy
import functools
import operator
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from copyreg import dispatch_table
from functools import cache, cached_property
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    MethodType,
    ModuleType,
    NoneType,
)
from typing import Any

import torch
from torch import nn

from graphs.calls.holding import Holdings, described, empty
from graphs.calls.running import forget
from graphs.errors import TraceError

_ATOMIC = frozenset(
    (int, float, bool, str, bytes, complex, NoneType, torch.dtype, torch.device, torch.Size)
)
_SHARED = (type, ModuleType, property, range)
_TABLES = frozenset((dict, OrderedDict, set))
_OWN = frozenset(vars(nn.Module()))
_HOOKS = ("__deepcopy__", "__copy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
_COMPILED = "_compiled_call_impl"


def copy_module(model: nn.Module, replaced: Mapping[int, torch.Tensor]) -> nn.Module:
    """What `copy.deepcopy(model, replaced)` gives, ten times as fast, and independent of `model`.

    Modules of ordinary classes are copied attribute by attribute; what has a way of its own to be
    copied goes that way. What forwards kept is dropped, compiled calls are compiled anew.

    Args:
        model: any module.
        replaced: id of a tensor → the tensor to put in its place (itself, to share it).

    Raises:
        TraceError: something in it holds the model and cannot hold a copy of it.
    """
    copied: nn.Module = _Copier(model, replaced).copied(model)
    forget(copied)
    return copied


def working_copy(model: nn.Module, *, apart: bool = True) -> nn.Module:
    """A copy to run, which leaves no trace in the model and takes no memory for its parameters.

    Buffers have memory of their own.

    Args:
        model: any module.
        apart: whether parameters are other objects over the same memory, or the model's own, which
            follow it when it gets other memory.

    Raises:
        TraceError: see `copy_module`.
    """
    replaced: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for held in module._parameters.values():
            if held is not None and id(held) not in replaced:
                replaced[id(held)] = _alias(held) if apart else held
        for buffer in module._buffers.values():
            if buffer is not None and id(buffer) not in replaced:
                copied = buffer.detach().clone()
                vars(copied).update(vars(buffer))
                replaced[id(buffer)] = copied
    return copy_module(model, replaced)


def _alias(parameter: nn.Parameter) -> nn.Parameter:
    made = nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
    vars(made).update(vars(parameter))
    return made


class _Copier:
    """One copy of one model under way.

    Args:
        model: that is copied.
        replaced: id of an object → what stands in its place.
    """

    def __init__(self, model: nn.Module, replaced: Mapping[int, torch.Tensor]) -> None:
        self.model = model
        self.memo: dict[int, Any] = dict(replaced)
        self.alive: list[Any] = []  # what only lives for the copy: no other may get its id
        self.outside = False

    @cached_property
    def holdings(self) -> Holdings:
        """What the model is made of; asked for where a function is met."""
        return Holdings(self.model)

    def copied(self, value: Any) -> Any:
        """The copy of a value."""
        kind: Any = type(value)
        if kind in _ATOMIC or (kind is tuple and _ATOMIC.issuperset(map(type, value))):
            return value
        if id(value) in self.memo:
            return self.memo[id(value)]
        if self.outside and not self.holdings.holds(value):
            return value
        if kind is tuple:
            entries = [self.copied(entry) for entry in value]
            return value if all(map(operator.is_, entries, value)) else tuple(entries)
        if kind is set and all(type(entry) in _ATOMIC for entry in value):
            return self._made(value, set(value))
        if kind is dict or kind is OrderedDict:
            made = self._made(value, kind())
            for key, entry in value.items():
                made[key if type(key) is str else self.copied(key)] = self.copied(entry)
            return made
        if kind is list:
            made = self._made(value, [])
            made.extend(self.copied(entry) for entry in value)
            return made
        if kind is torch.Tensor:
            # One a forward left behind (a normed weight) has a history, and marks of the recorder.
            made = self._made(value, value.detach().clone())
            return made.requires_grad_(value.requires_grad and value.is_leaf)
        if isinstance(value, nn.Module) and _ordinary(kind):
            return self._module(value)
        return self._other(value, kind)

    def _made(self, value: Any, made: Any) -> Any:
        self.memo[id(value)] = made
        return made

    def _module(self, value: nn.Module) -> nn.Module:
        kind = type(value)
        made: nn.Module = self._made(value, object.__new__(kind))
        state = vars(made)
        for name, entry in vars(value).items():
            form: Any = type(entry)
            if form in _ATOMIC:
                state[name] = entry
            elif form in _TABLES and not entry and name in _OWN:
                state[name] = form()  # most tables of a module are empty, and no other has them
            else:
                state[name] = None if name == _COMPILED else self.copied(entry)
        return made

    def _other(self, value: Any, kind: Any) -> Any:
        if isinstance(value, MethodType):
            return MethodType(self.bound(value.__func__), self.copied(value.__self__))
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, functools.partial):
            return self._partial(value) if self.holdings.holds(value) else value
        if isinstance(value, BuiltinFunctionType):
            held = self.holdings.holds(value)
            return getattr(self.bound(value.__self__), value.__name__) if held else value
        if isinstance(value, weakref.ReferenceType):
            return self._weak(value, value(), weakref.ref)
        if kind in weakref.ProxyTypes:
            return self._weak(value, value.__init__.__self__, weakref.proxy)
        if isinstance(value, _SHARED):
            return value
        try:
            if hasattr(kind, "__deepcopy__"):
                made = copy.deepcopy(value, self.memo)
                if made is value and self.holdings.needs(value):
                    raise TypeError("it copies to itself, and holds a part of the model")
                return self._made(value, made)
            return self._reduced(value, kind)
        except TraceError:
            raise
        except Exception as error:  # a lock, a file, a generator
            if isinstance(value, nn.Module) or self.holdings.needs(value):
                raise TraceError(
                    f"{type(self.model).__name__} cannot be copied: its "
                    f"{self.holdings.place(value)} cannot ({type(error).__name__}: {error})",
                    remedy="Leave it out of the module while that is pruned, or give it a "
                    "`__deepcopy__`.",
                ) from error
            return self._made(value, value)

    def bound(self, value: Any) -> Any:
        """What a function is given in the copy: the copy's, or the same where that is outside."""
        before, self.outside = self.outside, True
        try:
            return self.copied(value)
        finally:
            self.outside = before

    def _function(self, value: FunctionType) -> FunctionType:
        """A function over cells, defaults and attributes of the copy."""
        name = self.holdings.named_globally(value)
        if name is not None:
            raise TraceError(
                f"{type(self.model).__name__} cannot be copied: {described(value)} reads a part of "
                f'it by the global name "{name}", which in the copy would still be the original',
                remedy="Let the function take the module from its arguments or from a function "
                "around it, or remove it from the model before.",
            )
        if not self.holdings.holds(value):
            return value
        cells = value.__closure__ or ()
        own = tuple(self._cell(cell) for cell in cells)
        made = FunctionType(value.__code__, value.__globals__, value.__name__, None, own)
        self._made(value, made)  # it may be closed over itself
        for cell, copied in zip(cells, own, strict=True):
            if copied is not cell and empty(copied):
                copied.cell_contents = self.bound(cell.cell_contents)
        made.__defaults__ = self.bound(value.__defaults__)
        made.__kwdefaults__ = self.bound(value.__kwdefaults__)
        for name in ("__qualname__", "__module__", "__doc__", "__annotations__"):
            setattr(made, name, getattr(value, name))
        vars(made).update((name, self.bound(entry)) for name, entry in vars(value).items())
        return made

    def _cell(self, cell: CellType) -> CellType:
        """The cell of the copy; its contents come when the function that has it is there."""
        if id(cell) not in self.memo and self.holdings.holds(cell):
            self.memo[id(cell)] = CellType()
        found: CellType = self.memo.get(id(cell), cell)
        return found

    def _partial(self, value: functools.partial[Any]) -> functools.partial[Any]:
        words = {name: self.bound(entry) for name, entry in value.keywords.items()}
        made = type(value)(self.bound(value.func), *map(self.bound, value.args), **words)
        vars(made).update((name, self.bound(entry)) for name, entry in vars(value).items())
        self._made(value, made)
        return made

    def _weak(self, value: Any, target: Any, refer: Callable[[Any], Any]) -> Any:
        if target is None or not self.holdings.holds(target):
            return value
        return self._made(value, refer(self.bound(target)))

    def _reduced(self, value: Any, kind: Any) -> Any:
        """A copy in the way that an object says itself, as `copy` and `pickle` make one."""
        reduce = dispatch_table.get(kind)
        reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        if isinstance(reduced, str):
            return value
        self.alive.append(reduced)
        make, args, state, entries, pairs = (*reduced, None, None, None)[:5]
        made = self._made(value, make(*map(self.copied, args)))
        if state is not None:
            state = self.copied(state)
            if hasattr(made, "__setstate__"):
                made.__setstate__(state)
            else:
                plain, slots = state if isinstance(state, tuple) else (state, None)
                if plain:
                    vars(made).update(plain)
                for name, entry in (slots or {}).items():
                    setattr(made, name, entry)
        for entry in entries or ():
            made.append(self.copied(entry))
        for key, entry in pairs or ():
            made[self.copied(key)] = self.copied(entry)
        return made


@cache
def _ordinary(kind: type) -> bool:
    """Whether instances of a module class are copied by what `nn.Module` itself defines."""
    # The convolutions of torch only add an attribute that modules of old versions lack.
    base = nn.modules.conv._ConvNd if issubclass(kind, nn.modules.conv._ConvNd) else nn.Module
    same = all(getattr(kind, name, None) is getattr(base, name, None) for name in _HOOKS)
    return same and not any("__slots__" in vars(c) for c in kind.__mro__[:-1])
