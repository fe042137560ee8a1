"""`inplace=True` prunes the very module, as the last step of all."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import metaprune
from tests.metaprune.networks import cnn, digits, images, mlp


@pytest.mark.parametrize(
    "options", [{}, {"calibration": [images(32)]}, {"pattern": "unstructured", "budget": "erk"}]
)
def test_the_result_is_the_model_and_what_a_copy_would_be(options):
    target = {"sparsity": 0.5} if "pattern" in options else {"macs": "50%"}
    model = cnn()
    asked = {"target": target, "metanet": None, **options}
    expected = metaprune.prune(copy.deepcopy(model), images(), **asked)
    result = metaprune.prune(model, images(), inplace=True, **asked)
    assert result.model is model
    assert result.report["achieved"] == expected.report["achieved"]
    found, wanted = model.state_dict(), expected.model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())
    with torch.no_grad():
        assert torch.equal(model(*images()), expected.model(*images()))


def test_a_plan_is_carried_out_in_place():
    model = cnn()
    plan = metaprune.plan(model, images(), target={"macs": "50%"}, metanet=None)
    result = metaprune.apply(model, images(), plan, inplace=True)
    assert result.model is model
    assert sum(p.numel() for p in model.parameters()) == result.report["achieved"]["params"]


@pytest.mark.parametrize("schedule", ["one-shot", {"iterative": {"steps": 2}}])
@pytest.mark.parametrize(
    "asked",
    [
        *({"pattern": "unstructured", "transform": way} for way in ("rotate", "permute", "auto")),
        {"pattern": "2:4", "transform": {"rotate": {"descent": 4}, "permute": None}},
        *({"pattern": pattern} for pattern in ("low-rank", "sparse+low-rank", "2:4+low-rank")),
    ],
)
def test_what_cannot_be_in_place_is_refused_before_any_work(monkeypatch, asked, schedule):
    from metaprune.schedules import run

    monkeypatch.setattr(run, "plan_job", lambda *_: pytest.fail("it was planned first"))
    options = {"target": {"sparsity": 0.5}, "calibration": [images(8)], "metanet": None, **asked}
    if "low-rank" in asked["pattern"] or "2:4" in asked["pattern"]:
        schedule = "one-shot"
    with pytest.raises(ValueError, match="there is no pruning in place; leave inplace"):
        metaprune.prune(cnn(), images(), schedule=schedule, inplace=True, **options)


def test_the_teacher_of_finetuning_is_still_dense(monkeypatch):
    from training.recovery.methods import finetune as method

    model = mlp()
    dense = sum(p.numel() for p in model.parameters())
    seen = []

    def run_training(pruning, config, done):
        seen.append(sum(p.numel() for p in pruning.teacher.parameters()))

    monkeypatch.setattr(method, "run_training", run_training)
    data = digits()
    metaprune.prune(
        model,
        (torch.randn(2, 8),),
        target={"macs": "50%"},
        metanet=None,
        data=data,
        calibration=[(torch.randn(16, 8),)],
        finetune={"epochs": 1},
        inplace=True,
    )
    assert seen == [dense]
    assert sum(p.numel() for p in model.parameters()) < dense


def test_after_an_error_the_model_is_as_it_was(monkeypatch):
    from metaprune import applying

    model = cnn()
    before = copy.deepcopy(model.state_dict())
    monkeypatch.setattr(applying, "summary", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        metaprune.prune(
            model,
            images(),
            target={"macs": "50%"},
            metanet=None,
            calibration=[images(32)],
            inplace=True,
        )
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert isinstance(model, nn.Module)
