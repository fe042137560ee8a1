"""Layers of torch restate the shapes of their tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs.build.layers import restate


@pytest.mark.parametrize(
    ("layer", "change", "expected"),
    [
        (nn.Linear(4, 6), {"weight": (5, 3)}, {"in_features": 3, "out_features": 5}),
        (nn.Conv2d(4, 6, 3), {"weight": (5, 2, 3, 3)}, {"in_channels": 2, "out_channels": 5}),
        (nn.ConvTranspose1d(4, 6, 3), {"weight": (3, 5, 3)}, {"in_channels": 3, "out_channels": 5}),
        (nn.LayerNorm(6), {"weight": (4,)}, {"normalized_shape": (4,)}),
        (nn.BatchNorm1d(6), {"weight": (4,)}, {"num_features": 4}),
        (nn.GroupNorm(2, 6), {"weight": (4,)}, {"num_channels": 4}),
        (nn.Embedding(9, 6), {"weight": (9, 4)}, {"embedding_dim": 4}),
        (nn.Bilinear(3, 4, 5), {"weight": (2, 3, 4)}, {"out_features": 2}),
        (
            nn.LSTM(6, 5),
            {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4)},
            {"input_size": 3, "hidden_size": 4},
        ),
        (
            nn.GRUCell(6, 5),
            {"weight_ih": (12, 3), "weight_hh": (12, 4)},
            {"input_size": 3, "hidden_size": 4},
        ),
    ],
)
def test_layers_of_torch_say_what_their_tensors_say(layer, change, expected):
    assert list(restate(layer)) == []
    for name, shape in change.items():
        layer._parameters[name] = nn.Parameter(torch.zeros(shape))
    assert {field: new for field, _, new in restate(layer)} == expected
    assert {field: getattr(layer, field) for field in expected} == expected
