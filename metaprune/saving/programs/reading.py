"""From a graph as data to a module."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.utils import _pytree as pytree

from graphs.program.module import ExportedModule, exported_module
from graphs.tools.documents import FileError, read_json, told
from metaprune.saving.programs.arguments import read, read_spec
from metaprune.saving.programs.operators import operator_named
from metaprune.saving.programs.writing import FORMAT

MOST_NODES = 20_000
DEEPEST = 8
"""Most graphs inside of one another."""
NAME = re.compile(r"[\w\-]+(\.[\w\-]+)*", re.ASCII)
"""Of a tensor: it becomes part of the code that fx makes of a graph."""


def read_program(
    path: Path, tensors: Mapping[str, torch.Tensor], remedy: str, trust: bool = False
) -> ExportedModule:
    """The module of a graph that `write_program` wrote, in evaluation mode; it can be trained.

    Args:
        path: of the graph; it must be a plain file of its folder.
        tensors: name → value, of all that the graph names.
        remedy: what to do about a damaged file.
        trust: run operators of other packages that are registered in this process.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: it is damaged, calls what is in no table, or does not fit the tensors.
    """
    content = read_json(path, remedy, below=path.parent)
    with told(path, remedy):
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise FileError(
                f"{str(path)!r} is no graph of format {FORMAT}, which this version reads; {remedy}"
            )
        return _module(content, tensors, trust).train(False)


def _module(
    content: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], trust: bool
) -> ExportedModule:
    aliases = {_name(alias): _name(name) for alias, name in _dict(content, "aliases").items()}
    parameters = dict.fromkeys(map(_name, _list(content, "parameters")), True)
    buffers = {_name(n): bool(kept) for n, kept in _dict(content, "buffers").items()}
    constants = {name: tensors[name] for name in map(_name, _list(content, "constants"))}
    found = {}
    for alias, name in aliases.items():
        if alias in tensors:
            found[name] = tensors[alias]
    missing = sorted(set(aliases.values()) - found.keys())
    if missing:
        raise ValueError(f'there is no tensor "{missing[0]}"')
    idle = sorted(tensors.keys() - aliases.keys() - constants.keys())
    if idle:
        raise ValueError(f'the tensor "{idle[0]}" is read by nothing')
    for name, value in found.items():
        if name in parameters and not (value.is_floating_point() or value.is_complex()):
            raise ValueError(f'the parameter "{name}" is of {value.dtype}')
    reader = _Reader(trust)
    graph, graphs = reader.graph(content["graph"], {*aliases, *constants})
    places = [node.name for node in graph.nodes if node.op == "placeholder"]
    names = [_identifier(name) for name in _list(content, "names")]
    inputs, outputs = read_spec(content["inputs"]), read_spec(content["outputs"])
    _check_inputs(names, inputs, len(places))
    returned = next(reversed(graph.nodes)).args[0]
    if not isinstance(returned, list | tuple) or len(returned) != outputs.num_leaves:
        raise ValueError("the graph does not return what its outputs say")
    pytree.tree_unflatten([None] * outputs.num_leaves, outputs)  # it must take its parts
    graph.set_codegen(_PyTreeCodeGen(_PyTreeInfo(names, inputs, outputs)))
    trainable = {n: found[n].is_floating_point() or found[n].is_complex() for n in parameters}
    return exported_module(graph, found, trainable, buffers, aliases, {**constants, **graphs})


def _check_inputs(names: list[str], inputs: pytree.TreeSpec, count: int) -> None:
    """Refuse a structure of inputs that is not (arguments, keywords) with these names."""
    parts = inputs.children()
    if inputs.type is not tuple or [part.type for part in parts] != [tuple, dict]:
        raise ValueError("its inputs are no arguments and keywords")
    wanted = parts[0].num_children + parts[1].num_children
    if len(set(names)) != wanted or len(names) != wanted or inputs.num_leaves != count:
        raise ValueError("its inputs are others than those of its graph")
    for key in parts[1].context:
        _identifier(key)


@dataclass
class _Reader:
    """Graphs with the number of nodes that may still come."""

    trust: bool
    left: int = MOST_NODES

    def graph(
        self, content: Any, tensors: set[str], depth: int = 0
    ) -> tuple[fx.Graph, dict[str, nn.Module]]:
        """A graph, and those that it runs, by name."""
        if depth > DEEPEST:
            raise ValueError("graphs are nested too deeply")
        graphs: dict[str, nn.Module] = {}
        for name, inner in _dict(content, "graphs").items():
            found, inside = self.graph(inner, set(), depth + 1)
            root = nn.Module()
            for key, module in inside.items():
                root.add_module(key, module)
            graphs[_identifier(name)] = fx.GraphModule(root, found)
        graph, nodes = fx.Graph(), list[fx.Node]()
        entries = _list(content, "nodes")
        self.left -= len(entries)
        if self.left < 0:
            raise ValueError(f"it has more than {MOST_NODES:,} calls")
        for place, entry in enumerate(entries):
            if not isinstance(entry, list) or len(entry) not in (2, 3, 4):
                raise ValueError(f"call {place} cannot be read (got {entry!r:.80})")
            word, what, *rest = entry
            last = place == len(entries) - 1
            if (word == "output") is not last:
                raise ValueError("a graph ends with its one output")
            if word == "input":
                node = graph.placeholder(_identifier(what))
            elif word in ("tensor", "graph"):
                if what not in (tensors if word == "tensor" else graphs):
                    raise ValueError(f"call {place} reads {what!r:.80}, which is not there")
                node = graph.create_node("get_attr", what)
            elif word == "call":
                args = read(rest[0] if rest else [], nodes)
                kwargs = read(rest[1], nodes) if len(rest) > 1 else {}
                if not isinstance(args, list) or not isinstance(kwargs, dict):
                    raise ValueError(f"the arguments of call {place} cannot be read")
                for key in kwargs:
                    _identifier(key)
                node = graph.call_function(operator_named(what, self.trust), tuple(args), kwargs)
            elif word == "output":
                node = graph.output(read(what, nodes))
            else:
                raise ValueError(f"call {place} is {word!r:.80}, which is no kind of call")
            nodes.append(node)
        return graph, graphs


def _list(content: Any, key: str) -> list[Any]:
    found = content[key]
    if not isinstance(found, list):
        raise ValueError(f'"{key}" must be a list')
    return found


def _dict(content: Any, key: str) -> dict[str, Any]:
    found = content[key]
    if not isinstance(found, dict):
        raise ValueError(f'"{key}" must be an object')
    return found


def _name(name: Any) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > 1000:
        raise ValueError(f"{name!r:.80} is no name of a tensor")
    if any(map(keyword.iskeyword, name.split("."))):
        raise ValueError(f"{name!r:.80} is no name of a tensor: Python has a word of its own in it")
    return name


def _identifier(name: Any) -> str:
    plain = isinstance(name, str) and name.isascii() and name.isidentifier() and len(name) < 1000
    if not plain or keyword.iskeyword(name) or name == "self":
        raise ValueError(f"{name!r:.80} is no name of an argument")
    return str(name)
