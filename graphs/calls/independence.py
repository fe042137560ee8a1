"""A copy runs nothing of what it was copied from: seen in the tensors that its calls take.

Copying rebinds what holds the original (`graphs.calls.copying`); what it cannot see (a method of
the class that is closed over an instance, state in a C extension) shows when a copy is traced,
which costs nothing: a recorded call takes a tensor of the original, or an exported program has one
among its constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import torch
from torch import fx, nn

from graphs.calls.holding import attached, described
from graphs.calls.names import named
from graphs.errors import TraceError

MOST = 3
"""Hooks and wrappers that a refusal names."""


def foreign(original: nn.Module, copied: nn.Module) -> Mapping[int, str]:
    """id of a tensor that a copy has no business with → its name in the original."""
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
        held = getattr(program, str(node.target), None)
        name = memory.get(held.untyped_storage()._cdata) if type(held) is torch.Tensor else None
        if name is not None:
            raise dependent(original, name)


def dependent(original: nn.Module, tensor: str) -> TraceError:
    """What to tell of a copy that uses a tensor of the original."""
    kind = type(original).__name__
    found = dict.fromkeys(f"{described(one)} of {path or kind}" for path, one in attached(original))
    more = " and more" if len(found) > MOST else ""
    where = f"its hooks and wrappers are {', '.join(list(found)[:MOST])}{more}"
    return TraceError(
        f"{kind} cannot be copied: a copy of it still computes with {tensor} of the original, so "
        f"that no change of its own weights would count; "
        f"{where if found else 'it has no hooks of its own'}",
        remedy="Let hooks and wrapped forwards use the module that they are given, not one that "
        "they remember, or take them off before.",
    )
