"""Whole-block removal: branches of a residual sum that can go, and the network without them.

A block is what feeds one operand of a sum and nothing else, and reads the other operand:

    stream ──┬───────────────(+)──
             └── branch ──────┘

Without its branch the sum is the stream. A block whose last weights are zero is dead: dropping it
changes nothing (class `exact`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

from torch import nn

from graphs.axes.dims import atoms
from graphs.build.compare import agree
from graphs.build.rebuild import graph_model, in_training, rebuild
from graphs.calls.copying import copy_module
from graphs.calls.running import outputs
from graphs.depth.branches import Block, blocks
from graphs.program.program import Program, copied
from graphs.relate.structure import Source, Structure
from graphs.relate.trace import reopened, structure_of
from graphs.tools.arguments import said

S = TypeVar("S", bound=Structure)

# Names of attributes that state which place a layer has in its stack, and how many there are.
_PLACE = re.compile(r"(^|_)(layer|block)_(idx|index|id|number)$")
_COUNT = re.compile(r"(^|_)(num|n|number_of)_(hidden_)?(layers?|blocks?)$|^depth$")


def drop(net: S, names: Iterable[str]) -> S:
    """The network without some of its blocks.

    Where all that a layer of a `ModuleList` or `Sequential` holds is gone, the layer leaves the
    module too, the ones behind it move up, and the class is kept if its forward agrees; otherwise
    the network's module is the exported graph.

    Args:
        net: the network; sizes of axes may have been changed before.
        names: of blocks, from `blocks(net)`.

    Raises:
        KeyError: no such block.
        ValueError: no names.
    """
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise ValueError(f"expected the names of blocks, a list (got {said(names)})")
    names = list(names)
    smaller, lost = _counted(net, names)
    if smaller is net:
        return net
    read = {str(n.target) for n in smaller.program.graph.nodes if n.op == "get_attr"}
    shorter = _shorter(smaller, lost, smaller.tensors.keys() - read)
    if shorter is not None:
        return shorter
    smaller, _ = _counted(_any_size(net), names)
    return replace(smaller, source=replace(smaller.source, model=graph_model(smaller)))


def _any_size(net: S) -> S:
    """The network over a program that takes inputs of any size the model allows."""
    if not net.program.recorded:
        return net
    args, kwargs = net.source.example
    for again_from in (
        lambda: structure_of(net.source.model, kwargs or args, every_size=True),
        lambda: reopened(net),
    ):
        try:
            again = again_from()
        except Exception:  # Whatever a model does not allow, the program of fixed sizes is there.
            continue
        if all(again.tensors[name].dims == t.dims for name, t in net.tensors.items()):
            return replace(net, program=again.program)
    return net


def count_without(net: S, names: Iterable[str]) -> S:
    """The network without some of its blocks, to count its cost; it cannot be built.

    Args:
        net: the network.
        names: of blocks, from `blocks(net)`.

    Raises:
        KeyError: no such block.
    """
    return _counted(net, list(names))[0]


def _counted(net: S, names: list[str]) -> tuple[S, set[str]]:
    """The network without blocks over the module that still has them, and the tensors that went."""
    if not names:
        return net, set()
    known = {b.name: b for b in blocks(net)}
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise KeyError(f"no block {name!r}; `blocks()` lists them: {', '.join(known)}")
    gone = [known[name] for name in names]
    program = _without(net.program, gone)
    read = {str(n.target) for n in program.graph.nodes if n.op == "get_attr"}
    lost = {t for b in gone for t in b.tensors} - read
    tensors = {name: t for name, t in net.tensors.items() if name not in lost}
    used = {a for t in tensors.values() for d in t.dims for a in atoms(d)}
    axes = MappingProxyType({name: a for name, a in net.axes.items() if name in used})
    source = _kept(net.source, lost)
    smaller = replace(
        net, axes=axes, tensors=MappingProxyType(tensors), program=program, source=source
    )
    return smaller, lost


def _kept(source: Source, lost: set[str]) -> Source:
    return replace(
        source,
        aliases={a: n for a, n in source.aliases.items() if n not in lost},
        parameters={n: g for n, g in source.parameters.items() if n not in lost},
        buffers={n: p for n, p in source.buffers.items() if n not in lost},
        moved={n: before for n, before in source.moved.items() if n not in lost},
    )


def _without(program: Program, gone: Iterable[Block]) -> Program:
    """The program with the sums of the blocks bypassed and what nobody reads any more erased."""
    graph, values = copied(program.graph)
    nodes = {old.name: new for old, new in values.items()}
    for old, new in values.items():
        new.meta = dict(old.meta)
    # The last sum first: the stream of a block may be the sum of the block before it.
    order = {node.name: i for i, node in enumerate(program.graph.nodes)}
    for block in sorted(gone, key=lambda b: -order[b.sum]):
        nodes[block.sum].replace_all_uses_with(nodes[block.stream])
    # Inputs stay, read or not: the forward keeps its signature.
    for node in reversed(list(graph.nodes)):
        if not node.users and node.op in ("call_function", "get_attr"):
            graph.erase_node(node)
    names = {old: new.name for old, new in nodes.items() if new in set(graph.nodes)}
    targets = {str(n.target) for n in graph.nodes if n.op == "get_attr"}

    def over(mapping: Mapping[str, Any]) -> dict[str, Any]:
        return {names[old]: value for old, value in mapping.items() if old in names}

    return replace(
        program,
        graph=graph,
        constants={n: v for n, v in program.constants.items() if n in targets},
        dims=over(program.dims),
        arguments=over(program.arguments),
        costs=tuple(replace(c, node=names[c.node]) for c in program.costs if c.node in names),
        modules=over(program.modules),
        rescales=tuple(r for r in program.rescales if r.tensor in targets),
    )


def _shorter(net: S, lost: set[str], unread: set[str]) -> S | None:
    """The same network over the traced class with whole layers taken out, if that computes it.

    Args:
        net: without the blocks.
        lost: tensors that went with them.
        unread: tensors that the forward never read; those of a layer go with it.
    """
    model = copy_module(net.source.model, _shared(net.source.model))
    taken = _take_out(model, lost, unread)
    if taken is None:
        return None
    moved, also = taken
    net = replace(
        net,
        tensors={n: t for n, t in net.tensors.items() if n not in also},
        source=_kept(net.source, also),
    )

    def renamed(name: str) -> str:
        for old, new in moved.items():
            if name.startswith(old):
                return new + name[len(old) :]
        return name

    graph, values = copied(net.program.graph)
    for old, new in values.items():
        new.meta = dict(old.meta)
        if new.op == "get_attr" and str(old.target) in net.tensors:
            new.target = renamed(str(old.target))
    program = replace(
        net.program,
        graph=graph,
        modules={n: renamed(f"{p}.").rstrip(".") for n, p in net.program.modules.items()},
        costs=tuple(
            replace(c, module=renamed(f"{c.module}.").rstrip(".")) for c in net.program.costs
        ),
        rescales=tuple(replace(r, tensor=renamed(r.tensor)) for r in net.program.rescales),
    )
    traced = {renamed(n): net.source.moved.get(n, n) for n in net.tensors}
    source = replace(
        net.source,
        model=model,
        aliases={renamed(a): renamed(n) for a, n in net.source.aliases.items()},
        parameters={renamed(n): g for n, g in net.source.parameters.items()},
        buffers={renamed(n): p for n, p in net.source.buffers.items()},
        moved={new: old for new, old in traced.items() if new != old},
    )
    tensors = MappingProxyType({renamed(n): t for n, t in net.tensors.items()})
    shorter = replace(net, tensors=tensors, program=program, source=source)
    held = {*dict(model.named_parameters()), *dict(model.named_buffers())}
    if held != set(tensors):
        return None
    try:
        built = rebuild(shorter).model
    except (RuntimeError, KeyError, AttributeError):
        return None
    expected = outputs(graph_model(shorter), net.source.example)
    kept = type(built) is type(model) and agree(outputs(built, net.source.example), expected)
    return shorter if kept and not in_training(net, built) else None


def _shared(model: nn.Module) -> dict[int, Any]:
    return {id(t): t for t in (*model.parameters(), *model.buffers())}


def _take_out(
    model: nn.Module, lost: set[str], unread: set[str]
) -> tuple[dict[str, str], set[str]] | None:
    """Take out every layer whose tensors are all lost.

    Returns:
        Old → new prefixes of the layers that moved up, and the unread tensors that went along; None
        when some lost tensor belongs to a layer that stays.
    """
    moved: dict[str, str] = {}
    also: set[str] = set()
    remaining = set(lost)
    for path, module in list(model.named_modules()):
        if not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        prefix = f"{path}." if path else ""
        stays: list[int] = []
        for i, child in enumerate(module):
            inside = {
                f"{prefix}{i}.{n}"
                for n in (*dict(child.named_parameters()), *dict(child.named_buffers()))
            }
            if inside & lost and inside <= lost | unread:
                remaining -= inside
                also |= inside - lost
            else:
                stays.append(i)
        if len(stays) == len(module) or not stays:
            continue
        for new, old in enumerate(stays):
            if new != old:
                moved[f"{prefix}{old}."] = f"{prefix}{new}."
                _renumber(module[old], old, new)
        _recount(model, len(module), stays)
        kept = [module[i] for i in stays]
        for i in reversed(range(len(module))):
            del module[i]
        for child in kept:
            module.append(child)
    return None if remaining else (moved, also)


def _renumber(layer: nn.Module, old: int, new: int) -> None:
    for module in layer.modules():
        for field, value in vars(module).items():
            if value == old and isinstance(value, int) and _PLACE.search(field):
                setattr(module, field, new)


def _recount(model: nn.Module, before: int, stays: list[int]) -> None:
    """Bring the number of layers, and lists with an entry a layer, in line in configurations."""
    holders: dict[int, Any] = {}
    for module in model.modules():
        holders[id(module)] = module
        config = getattr(module, "config", None)
        if hasattr(config, "__dict__"):
            holders[id(config)] = config
    for holder in holders.values():
        for field, value in list(vars(holder).items()):
            if isinstance(value, int) and value == before and _COUNT.search(field):
                setattr(holder, field, len(stays))
            elif isinstance(value, list | tuple) and len(value) == before and "layer" in field:
                setattr(holder, field, type(value)(value[i] for i in stays))
