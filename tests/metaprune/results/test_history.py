"""What was done to a module is remembered as long as the module lives, and no longer."""

from __future__ import annotations

import copy
import gc

import torch
from torch import nn

import metaprune
from metaprune.results import history
from metaprune.results.history import history_of


def once(model: nn.Module):
    return metaprune.prune(
        model, (torch.randn(2, 8),), pattern="row", target={"sparsity": 0.5}, metanet=None
    )


def test_it_goes_with_the_module():
    gc.collect()
    before = len(history._HISTORIES)
    result = once(nn.Linear(8, 8))
    assert history_of(result.model).plan == result.plan
    assert len(history._HISTORIES) == before + 1
    del result
    gc.collect()
    assert len(history._HISTORIES) == before


def test_a_copy_and_the_dense_model_have_none():
    model = nn.Linear(8, 8)
    result = once(model)
    assert history_of(model) is None
    assert history_of(copy.deepcopy(result.model)) is None
