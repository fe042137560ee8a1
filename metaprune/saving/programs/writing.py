"""From a module to its exported graph as data."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from graphs.calls.export import attribute, flat, guards_of
from graphs.calls.names import Names
from graphs.program.guards import put_guards
from graphs.tools.files import write_tensors, write_text
from metaprune.saving.archive import exported
from metaprune.saving.programs.arguments import written, written_spec
from metaprune.saving.programs.operators import known, name_of

FORMAT = 1


def write_program(
    model: nn.Module, example_inputs: Any, path: Path, beside: Path, saved: Iterable[str]
) -> list[str]:
    """Export a module and write its graph, and the tensors that are not saved elsewhere.

    Args:
        model: any module that `torch.export` accepts; left as it was.
        example_inputs: tuple of arguments or dict of keywords.
        path: of the graph, a JSON file.
        beside: of the tensors, a safetensors file; made where there are any.
        saved: names of the tensors that are in a file already.

    Returns:
        Names of operators that are run only where the file is trusted.

    Raises:
        ValueError: it cannot be exported, or its graph is more than data.
    """
    module: Any = flat(exported(model, example_inputs))
    if (guards := guards_of(module)) is not None:
        put_guards(module.graph, guards)
    names = Names(module)
    constants = {
        target: value.detach()
        for node in module.graph.nodes
        if node.op == "get_attr" and (target := str(node.target)) not in names.aliases
        if isinstance(value := attribute(module, target), torch.Tensor)
    }
    codegen: Any = module.graph._codegen
    content = {
        "format": FORMAT,
        "names": list(codegen.pytree_info.orig_args),
        "inputs": written_spec(codegen.pytree_info.in_spec),
        "outputs": written_spec(codegen.pytree_info.out_spec),
        "parameters": list(names.parameters),
        "buffers": names.buffers,
        "aliases": names.aliases,
        "constants": list(constants),
        "graph": _graph(module),
    }
    write_text(path, json.dumps(content, separators=(",", ":")) + "\n")
    there = {names.aliases[name] for name in saved if name in names.aliases}
    rest = {name: value for name, value in names.values.items() if name not in there}
    if rest or constants:
        write_tensors(beside, {**rest, **constants})
    return sorted({
        name_of(node.target)
        for inner in module.modules()
        if isinstance(inner, fx.GraphModule)
        for node in inner.graph.nodes
        if node.op == "call_function" and not known(node.target)
    })  # fmt: skip


def _graph(module: fx.GraphModule) -> dict[str, Any]:
    """The nodes of a graph, and the graphs that it runs."""
    places = {node: place for place, node in enumerate(module.graph.nodes)}
    graphs: dict[str, Any] = {}
    nodes: list[Any] = []
    for node in places:
        arguments = [written(list(node.args), places.__getitem__)]
        if node.kwargs:
            arguments.append(written(dict(node.kwargs), places.__getitem__))
        if node.op == "placeholder":
            nodes.append(["input", node.name])
        elif node.op == "get_attr":
            name = str(node.target)
            held = attribute(module, name)
            nodes.append(["graph" if isinstance(held, fx.GraphModule) else "tensor", name])
            if isinstance(held, fx.GraphModule):
                graphs[name] = _graph(held)
            elif not isinstance(held, torch.Tensor):
                raise ValueError(f"a graph that reads a {type(held).__name__} is more than data")
        elif node.op == "call_function":
            nodes.append(["call", name_of(node.target), *arguments])
        elif node.op == "output":
            nodes.append(["output", written(node.args[0], places.__getitem__)])
        else:
            raise ValueError(f"a graph with {node.op} of {node.target} is more than data")
    return {"nodes": nodes, "graphs": graphs}
