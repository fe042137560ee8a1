"""A copy runs nothing of what it was copied from: seen where the copy is run anyway.

Copying rebinds what holds the original (`graphs.calls.copying`); what it cannot see (state of an
extension, a class that remembers its instances) shows when a copy is traced: a call takes a tensor
of the original, an exported program has one among its constants, or something in the original is
another afterwards. All of that costs less than a thousandth of the forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import fx, nn

from graphs.calls.holding import attached, described
from graphs.calls.names import named
from graphs.errors import TraceError

MOST = 3
"""Hooks, wrappers and attributes that a refusal names."""

Contents = dict[tuple[int, str], Any]
"""(id of a module, attribute) → what it holds: ids of entries, and the versions of buffers."""


@contextmanager
def unwritten(original: nn.Module) -> Iterator[None]:
    """Refuse a copy that writes into what it was copied from while it runs.

    Raises:
        TraceError: it did, with the hooks and wrappers that may be why.
    """
    before = contents(original)
    yield
    if written := changes(before, original):
        raise _dependent(original, f"when a copy of it runs, {written} of the original changes")


def contents(model: nn.Module) -> Contents:
    """What the attributes of all modules hold, to be compared with `changes`."""
    return {
        (id(module), name): _held(name, value)
        for module in model.modules()
        for name, value in vars(module).items()
    }


def _held(name: str, value: Any) -> Any:
    if isinstance(value, dict | list):
        if not value:  # most tables of a module
            return None
        if isinstance(value, list):
            return list(map(id, value))
        if name == "_buffers":
            return {key: (id(b), _version(b)) for key, b in value.items()}
        return {key: id(entry) for key, entry in value.items()}
    return id(value)


def changes(before: Contents, model: nn.Module) -> str:
    """The first attributes that hold something else than before: `kept of body.1`; or nothing."""
    after = contents(model)
    if after == before:
        return ""
    paths = {id(module): path or type(model).__name__ for path, module in model.named_modules()}
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return ", ".join(f"{name} of {paths.get(where, '?')}" for where, name in changed[:MOST])


def _version(buffer: torch.Tensor | None) -> int:
    return 0 if buffer is None or buffer.is_inference() else buffer._version


def foreign(original: nn.Module, copied: nn.Module) -> Mapping[int, str]:
    """Id of a tensor that a copy has no business with → its name in the original."""
    own = {id(tensor) for _, tensor in chain(*named(copied))}
    return {id(t): name for name, t in chain(*named(original)) if id(t) not in own}


def refuse_foreign(program: fx.GraphModule, copied: nn.Module, original: nn.Module) -> None:
    """Refuse an exported program with a tensor of the original that is none of the copy's.

    Raises:
        TraceError: there is one, with the hooks and wrappers that may be why.
    """
    own = {name for name, _ in chain(*named(copied))}
    memory = {t.untyped_storage()._cdata: name for name, t in chain(*named(original))}
    for node in program.graph.nodes:
        if node.op != "get_attr" or node.target in own:
            continue
        held: Any = getattr(program, str(node.target), None)
        name = memory.get(held.untyped_storage()._cdata) if type(held) is torch.Tensor else None
        if name is not None:
            raise computing_with(original, name)


def computing_with(original: nn.Module, tensor: str) -> TraceError:
    """What to tell of a copy that uses a tensor of the original."""
    return _dependent(
        original,
        f"a copy of it still computes with {tensor} of the original, so that no change of its own "
        "weights would count",
    )


def _dependent(original: nn.Module, why: str) -> TraceError:
    kind = type(original).__name__
    found = dict.fromkeys(f"{described(one)} of {path or kind}" for path, one in attached(original))
    more = " and more" if len(found) > MOST else ""
    where = f"its hooks and wrappers are {', '.join(list(found)[:MOST])}{more}"
    return TraceError(
        f"{kind} cannot be copied: {why}; {where if found else 'it has no hooks of its own'}",
        remedy="Let hooks and wrapped forwards use the module that they are given, not one that "
        "they remember, or take them off before.",
    )
