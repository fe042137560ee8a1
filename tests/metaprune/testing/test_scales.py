"""A wrong scale is caught."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from graphs.rules import RULES
from metaprune import testing


def test_scale_law_fails_where_an_activation_is_called_homogeneous():
    wrong = {"tanh": replace(RULES["tanh"], homogeneous=True)}
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    with RULES.scoped(wrong), pytest.raises(AssertionError, match=r"scaling 0\.out"):
        testing.assert_scale_invariant(model, (torch.randn(2, 4),))
