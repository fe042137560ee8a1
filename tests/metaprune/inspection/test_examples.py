"""Example inputs without data."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from metaprune.inspection.examples import from_model, from_shapes
from tests.oracles.networks.families import build


def test_example_inputs_come_from_shapes_or_from_the_model():
    model, _ = build("vit")
    assert from_model(model)["pixel_values"].shape == (1, 3, 8, 8)
    assert from_model(build("llama")[0])["input_ids"].shape == (1, 32)
    (x,) = from_shapes([2, 3, 8, 8], model.bfloat16())
    assert x.dtype is torch.bfloat16
    mask = from_shapes({"attention_mask": [1, 5]}, model)["attention_mask"]
    assert mask.dtype is torch.int64
    for wrong in ("abc", [], [0, 3], 5):
        with pytest.raises(ValueError, match="inputs="):
            from_shapes(wrong, model)
    with pytest.raises(ValueError, match="say what the model reads"):
        from_model(nn.Linear(2, 2))
