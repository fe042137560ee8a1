"""Pruning what lies under a wrapper is pruning the module itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import metaprune
from tests.metaprune.networks import cnn, images


# Importing the compiler warns of its own use of TorchScript.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_a_wrapped_model_is_pruned_as_the_module_in_it(wrap):
    asked = {"target": {"macs": "50%"}, "calibration": [images(8)]}
    plain = metaprune.prune(cnn(), images(), **asked)
    wrapped = metaprune.prune(wrap(cnn()), images(), **asked)
    assert type(wrapped.model) is type(plain.model)
    assert wrapped.plan.kept == plain.plan.kept
    assert torch.equal(wrapped.model(*images()), plain.model(*images()))
    plan = metaprune.plan(wrap(cnn()), images(), **asked)
    again = metaprune.apply(wrap(cnn()), images(), plan, calibration=[images(8)])
    assert torch.equal(again.model(*images()), plain.model(*images()))
