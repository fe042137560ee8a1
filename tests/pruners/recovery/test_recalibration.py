from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from graphs.build.rebuild import graph_model
from pruners.recovery import recalibrate_batch_norm


def batches(count=3, size=6):
    generator = torch.Generator().manual_seed(0)
    make = lambda: torch.randn(size, 3, 6, 6, generator=generator, dtype=torch.float64)  # noqa: E731
    return [(2 * make() + 1,) for _ in range(count)]


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def torch_way(model, data):
    """Torch's own cumulative average: norms in training mode, momentum None."""
    model = copy.deepcopy(model).eval()
    for norm in norms(model):
        norm.train()
        norm.momentum = None
        norm.reset_running_stats()
    with torch.no_grad():
        for batch in data:
            model(*batch)
    return model


def test_equals_torchs_cumulative_average(cnn):
    expected = torch_way(cnn.model, batches())
    model = copy.deepcopy(cnn.model)
    result = recalibrate_batch_norm(model, batches())
    assert (result.norms, result.batches) == (2, 3)
    assert result.status == "2 batch norms recalibrated over 3 batches."
    for ours, theirs in zip(norms(model), norms(expected), strict=True):
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)
        torch.testing.assert_close(ours.running_var, theirs.running_var)
        assert ours.momentum == 0.1


def test_an_exported_graph_is_recalibrated_alike(cnn):
    expected = torch_way(cnn.model, batches()).state_dict()
    exported = graph_model(cnn.net)
    assert recalibrate_batch_norm(exported, batches()).norms == 2
    found = exported.state_dict()
    for name in ("norm1.running_mean", "norm2.running_var"):
        torch.testing.assert_close(found[name], expected[name])


def test_only_running_statistics_change_and_flags_come_back(cnn):
    model = copy.deepcopy(cnn.model).train()
    model.norm1.eval()
    flags = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recalibrate_batch_norm(model, batches())
    assert [module.training for module in model.modules()] == flags
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == ("running" not in name), name


def test_running_statistics_that_are_already_right_stay(cnn):
    """On one batch the recalibrated network normalises that batch, and a second run agrees."""
    model = copy.deepcopy(cnn.model)
    recalibrate_batch_norm(model, batches(1))
    once = copy.deepcopy(model.state_dict())
    recalibrate_batch_norm(model, batches(1))
    for name, value in model.state_dict().items():
        assert torch.equal(value, once[name])


def test_statistics_that_are_not_numbers_are_repaired(cnn):
    model = copy.deepcopy(cnn.model)
    model.norm1.running_var.fill_(float("nan"))
    recalibrate_batch_norm(model, batches())
    assert model.norm1.running_var.isfinite().all()


@pytest.mark.parametrize("broken", [[], [batches(1)[0], (torch.zeros(1, 7),)]])
def test_an_error_leaves_the_old_statistics(cnn, broken):
    model = copy.deepcopy(cnn.model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises((ValueError, RuntimeError)):
        recalibrate_batch_norm(model, broken)
    assert all(module.training for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_no_norms_is_said(dense_mlp):
    result = recalibrate_batch_norm(dense_mlp.model, [dense_mlp.inputs])
    assert "nothing to recalibrate" in result.status
    stateless = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, track_running_stats=False))
    assert recalibrate_batch_norm(stateless, [torch.randn(2, 1, 3, 3)]).norms == 0
