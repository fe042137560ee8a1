"""Tied tensors given values of their own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from graphs.build.configs import is_config
from graphs.build.rebuild import rebuild
from graphs.relate.structure import Structure

_TIES = "tie_word_embeddings"


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
        if name not in aliases:
            raise KeyError(f"{name!r} is not a tensor of this network")
        if list(aliases.values()).count(aliases[name]) == 1:
            raise ValueError(f"{name} is not tied to another tensor")
    model = rebuild(net).model
    if type(model) is not type(net.source.model):
        raise ValueError(
            f"{names[0]} cannot be untied: the network no longer fits into the class "
            f"{type(net.source.model).__name__}. Untie before pruning"
        )
    memo: dict[int, Any] = {}
    for module in model.modules():
        _ask_for_no_ties(module, memo)
    for name in names:
        path, _, leaf = name.rpartition(".")
        owner = model.get_submodule(path)
        held = owner._parameters[leaf]
        assert held is not None
        made = nn.Parameter(held.detach().clone(), requires_grad=held.requires_grad)
        owner._parameters[leaf] = made
    args, kwargs = net.source.example
    return model, kwargs or args


def _ask_for_no_ties(module: nn.Module, memo: dict[int, Any]) -> None:
    """Let a configuration ask for no tied embeddings, in a copy that all modules share."""
    for name, value in list(vars(module).items()):
        if not is_config(name, value):
            continue
        if id(value) not in memo:
            made = copy.deepcopy(value)
            for one in (made, *(v for k, v in vars(made).items() if is_config(k, v))):
                if getattr(one, _TIES, False):
                    setattr(one, _TIES, False)
            memo[id(value)] = made
            memo[id(made)] = made
        setattr(module, name, memo[id(value)])
