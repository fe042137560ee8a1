"""Tied tensors given values of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from graphs.build.rebuild import rebuild
from graphs.build.ties import untie
from graphs.relate.structure import Structure


def untied(net: Structure, names: Sequence[str]) -> tuple[nn.Module, Any]:
    """A module of the same function in which parameters are no longer tied, and example inputs.

    Args:
        net: the network.
        names: state-dict names that get values of their own.

    Raises:
        KeyError: there is no tensor of such a name.
        ValueError: it is not tied to another one, or the network is not of its class any more.
    """
    aliases = net.source.aliases
    for name in names:
        if not isinstance(name, str) or name not in aliases:
            raise KeyError(f"{name!r} is not a tensor of this network")
        if list(aliases.values()).count(aliases[name]) == 1:
            raise ValueError(f"{name} is not tied to another tensor")
    model = rebuild(net).model
    if type(model) is not type(net.source.model):
        raise ValueError(
            f"{names[0]} cannot be untied: the network no longer fits into the class "
            f"{type(net.source.model).__name__}. Untie before pruning"
        )
    untie(model, names)
    args, kwargs = net.source.example
    return model, kwargs or args
