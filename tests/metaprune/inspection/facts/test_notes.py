"""Remarks on hooks, ties and unused parameters."""

from __future__ import annotations

import torch
from torch import nn

import metaprune
from tests.oracles.networks.families import build


def test_hooks_ties_and_unused_parameters_are_remarked():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    model[0].register_forward_hook(lambda module, args, out: out * 2)
    model.register_parameter("spare", nn.Parameter(torch.ones(3)))
    notes = " ".join(metaprune.inspect(model, (torch.randn(2, 4),)).notes)
    assert "hooks on 0" in notes
    assert "does not use spare" in notes
    assert "lm_head.weight" in " ".join(metaprune.inspect(*build("llama")).notes)
