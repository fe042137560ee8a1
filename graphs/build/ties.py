"""Tied parameters of a module, given values of their own."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from graphs.build.configs import is_config

_TIES = "tie_word_embeddings"


def untie(model: nn.Module, names: Sequence[str]) -> None:
    """Give parameters values of their own, the same ones, in place.

    A configuration that asks for tied embeddings asks for none afterwards, in a copy that all
    modules share.

    Args:
        model: any module.
        names: state-dict names of tied parameters.
    """
    if not names:
        return
    memo: dict[int, Any] = {}
    for module in model.modules():
        _ask_for_no_ties(module, memo)
    for name in names:
        path, _, leaf = name.rpartition(".")
        table = model.get_submodule(path)._parameters
        held = table[leaf]
        assert held is not None
        table[leaf] = nn.Parameter(held.detach().clone(), requires_grad=held.requires_grad)


def _ask_for_no_ties(module: nn.Module, memo: dict[int, Any]) -> None:
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
