"""Configurations that modules share, and what the new shapes make of them.

A configuration says one value for all modules that refer to it. Where they come to differ, no value
is right: `graphs.build.search` then gives each module a copy with its own, if its forward asks for
that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import nn

from graphs.build.attributes import Found, Repair, is_size, is_width, reading_order

_CONFIGS = re.compile(r"(^|_)(config|cfg|conf|args|hparams|params|options|opts)$")


@dataclass(frozen=True)
class Config:
    """What a configuration that modules share should say.

    Args:
        places: (module path, attribute) of every reference to it.
        repairs: fields with one new value for all, under the path of the first reference.
        varied: field → {module path: new value} where modules differ; no shared value is right.
    """

    places: tuple[tuple[str, str], ...]
    repairs: tuple[Repair, ...]
    varied: Mapping[str, Mapping[str, int]]

    def of(self, model: nn.Module) -> Any:
        """The configuration itself, in a module of the same structure."""
        path, name = self.places[0]
        return vars(model.get_submodule(path))[name]

    def copies(self) -> Iterator[tuple[str, str, dict[str, int]]]:
        """(module path, attribute, its own values) of every module that needs a copy."""
        for path, name in self.places:
            values = {}
            for key, given in self.varied.items():
                inside = {v for p, v in given.items() if p == path or p.startswith(f"{path}.")}
                if path and len(inside) == 1:
                    values[key] = inside.pop()
            if values:
                yield path, name, values


def is_config(name: str, value: Any) -> bool:
    """Whether an attribute of a module is a configuration."""
    return _names_a_config(name) and hasattr(value, "__dict__")


@cache
def _names_a_config(name: str) -> bool:
    return bool(_CONFIGS.search(name))


def has_configs(model: nn.Module) -> bool:
    """Whether any module refers to a configuration."""
    names = set().union(*map(vars, model.modules()))
    named = [name for name in names if _names_a_config(name)]
    return any(is_config(n, vars(m).get(n)) for m in model.modules() for n in named)


def configs(model: nn.Module, found: Found) -> list[Config]:
    """The configurations that a model's modules refer to, and what the new shapes make of them."""
    holders: dict[int, list[tuple[str, str]]] = {}
    objects: dict[int, Any] = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if is_config(name, value):
                holders.setdefault(id(value), []).append((path, name))
                objects[id(value)] = value
    made = []
    for key, places in holders.items():
        scope = _scope(key, holders, found)
        at = ".".join(filter(None, places[0]))
        # The whole model's also says what its parts say in configurations of their own.
        wider = found if not places[0][0] else {}
        repairs, varied = [], {}
        for name, value in vars(objects[key]).items():
            if name.startswith("_") or not is_width(name) or not is_size(value):
                continue
            if isinstance(value, list | tuple):
                new: Any = _each(name, value, scope)
            else:
                values = _shared(name, value, scope) or _shared(name, value, wider)
                new = next(iter(values.values()), value)
                if len(set(values.values())) > 1:
                    varied[name], new = values, value
            if new != value:
                repairs.append(Repair(at, name, value, new))
        made.append(Config(tuple(places), tuple(repairs), varied))
    return made


def _scope(key: int, holders: Mapping[int, list[tuple[str, str]]], found: Found) -> Found:
    """The evidence of modules whose nearest configuration is this one."""
    places = {path: k for k, paths in holders.items() for path, _ in paths}

    def nearest(path: str) -> int | None:
        while path not in places and path:
            path = path.rpartition(".")[0]
        return places.get(path)

    return {path: entries for path, entries in found.items() if nearest(path) == key}


def _each(name: str, value: Any, scope: Found) -> Any:
    """A configured list of sizes (of stages) with the new ones, as far as they are told apart."""
    found = [set(_shared(name, size, scope).values()) or {size} for size in value]
    sizes = [new.pop() if len(new) == 1 else old for old, new in zip(value, found, strict=True)]
    return type(value)(sizes)


def _shared(name: str, value: int, scope: Found) -> dict[str, int]:
    """Module path → new value of a configured size, by the kind of evidence its name asks for."""
    for kind in reading_order(name):
        values = {
            path: e.new
            for path, entries in scope.items()
            for e in entries
            if e.kind == kind != "call" and e.old == value
        }
        if values:
            return {p: v for p, v in values.items() if not _inside(p, values)}
    return {}


def _inside(path: str, others: Iterable[str]) -> bool:
    return any(path.startswith(f"{other}.") for other in others if other)
