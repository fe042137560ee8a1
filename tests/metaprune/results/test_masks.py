"""Masks survive loops of users, or what is saved says that they did not."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import metaprune

ROWS = torch.randn(16, 8)


def _result(**settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
    return metaprune.prune(model, (ROWS,), metanet=None, **settings)


SETTINGS = {
    "2:4": {"pattern": "2:4"},
    "unstructured": {"pattern": "unstructured", "target": {"sparsity": 0.7}},
    "rows": {"pattern": "row", "target": {"sparsity": 0.5}},
}


def _trained(result, *, keep):
    optimizer = torch.optim.AdamW(result.model.parameters(), lr=1e-2)
    result.model.train()
    for _ in range(3):
        optimizer.zero_grad()
        result.model(ROWS).pow(2).mean().backward()
        optimizer.step()
        if keep:
            assert result.keep_masks() > 0
    return result


@pytest.mark.parametrize("name", list(SETTINGS))
def test_masks_are_kept_in_a_loop(name, tmp_path):
    result = _result(**SETTINGS[name])
    _trained(result, keep=True)
    assert result.keep_masks() == 0
    for weight, mask in result.masks.items():
        assert not result.model.get_parameter(weight)[~mask].any()
    result.save(tmp_path / "saved")
    report = json.loads((tmp_path / "saved" / "report.json").read_text())
    assert report["achieved"] == result.report["achieved"]
    assert report["notes"] == result.report["notes"]


@pytest.mark.parametrize("name", list(SETTINGS))
def test_a_dense_network_is_not_saved_as_a_sparse_one(name, tmp_path):
    result = _trained(_result(**SETTINGS[name]), keep=False)
    result.save(tmp_path / "saved")
    report = json.loads((tmp_path / "saved" / "report.json").read_text())
    weights = [result.model.get_parameter(name) for name in result.masks]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    share = zeros / sum(w.numel() for w in weights)
    assert report["achieved"]["sparsity"] == pytest.approx(share)
    assert share < 0.2
    whole = sum(p.numel() for p in result.model.parameters())
    assert report["achieved"]["params"] == whole - zeros
    assert (
        sum(layer["kept"] for layer in report["layers"]) == sum(w.numel() for w in weights) - zeros
    )
    assert "outside of the masks are not 0 any more" in report["notes"][-1]
    opened = metaprune.load(tmp_path / "saved")
    torch.testing.assert_close(opened.eval()(ROWS), result.model.eval()(ROWS))
