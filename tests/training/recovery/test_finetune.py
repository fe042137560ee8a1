from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from training import FinetuneConfig, evaluate, finetune, fit

CONFIG = {"epochs": 2, "batch_size": 40, "lr": 0.05, "device": "cpu"}


def half_masks(model):
    """Return masks that keep the larger half of every weight."""
    return {
        name: p.detach().abs() > p.detach().abs().median()
        for name, p in model.named_parameters()
        if p.ndim > 1
    }


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_masked_weights_stay_exactly_zero_and_the_others_move(network, digits, optimizer):
    masks, before = half_masks(network), copy.deepcopy(network.state_dict())
    settings = {**CONFIG, "optimizer": optimizer, "evaluate_first": False}
    finetune(network, digits, settings, masks=masks)
    for name, mask in masks.items():
        after = network.state_dict()[name]
        assert (after[~mask] == 0).all()
        assert (after[mask] != before[name][mask]).all()


def test_exported_graphs_are_finetuned_too(network, digits):
    graph = torch.export.export(
        network.eval(),
        (torch.zeros(2, 1, 8, 8),),
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        strict=False,
    ).module()
    masks = half_masks(graph)
    before = evaluate(graph, digits, "validation")["loss"]
    finetune(graph, digits, {**CONFIG, "epochs": 4}, masks=masks)
    assert evaluate(graph, digits, "validation")["loss"] < before
    assert all((graph.get_parameter(n)[~m] == 0).all() for n, m in masks.items())


def test_finetuning_recovers_and_never_ends_worse_than_it_began(network, digits):
    fit(network, digits, {**CONFIG, "epochs": 8, "lr": 0.2})
    masks = half_masks(network)
    pruned = copy.deepcopy(network)
    result = finetune(pruned, digits, {**CONFIG, "lr": 0.1}, masks=masks, teacher=network)
    assert result.history[0]["epoch"] == 0
    assert result.best["accuracy"] >= result.history[0]["accuracy"]
    assert result.best["loss"] < result.history[0]["loss"]


def test_the_teacher_alone_can_teach_and_is_left_alone(network, digits):
    teacher = copy.deepcopy(network)
    fit(teacher, digits, {**CONFIG, "epochs": 30, "lr": 0.2})
    teacher.train()
    before = copy.deepcopy(teacher.state_dict())
    wrong = replace(digits.train, targets=(digits.train.targets + 1) % 10)
    misled = replace(digits, train=wrong)
    settings = {**CONFIG, "epochs": 30, "lr": 0.2, "evaluate_first": False}
    pupil = copy.deepcopy(network)
    finetune(pupil, misled, {**settings, "distillation": 1.0}, teacher=teacher)
    assert evaluate(pupil, digits, "validation")["accuracy"] > 0.6  # only the teacher knows
    assert teacher.training
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert not any(p.grad is not None and p.grad.any() for p in teacher.parameters())


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"missing.weight": torch.ones(1, dtype=torch.bool)}, "no parameter 'missing.weight'"),
        ({"0.weight": torch.ones(8, 1, 3, 3)}, r"bool of shape \(8, 1, 3, 3\) \(got torch.float32"),
        ({"0.weight": torch.ones(2, dtype=torch.bool)}, r"got torch.bool \(2,\)"),
    ],
)
def test_masks_that_do_not_fit(network, digits, masks, message):
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match=message):
        finetune(network, digits, CONFIG, masks=masks)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_settings(network, digits, tmp_path):
    parsed = FinetuneConfig.parse({"epochs": 7, "temperature": 5.0})
    assert (parsed.fit.epochs, parsed.temperature, parsed.fit.evaluate_first) == (7, 5.0, True)
    for bad, message in (
        ({"epoch": 1}, '^unknown setting "epoch" .did you mean "epochs"'),
        ({"temprature": 1.0}, 'did you mean "temperature"'),
        ({"lr": "fast"}, r"^lr takes a number \(got 'fast'\)"),
        ({"distillation": 2}, r"must lie in \[0, 1\]"),
        ({"temperature": 0}, "must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            finetune(network, digits, bad)
    with pytest.raises(ValueError, match=r"^finetune\.lr takes a number"):
        FinetuneConfig.parse({"lr": None}, "finetune")


def test_other_masks_refuse_the_checkpoint(network, digits, tmp_path):
    masks = half_masks(network)
    finetune(network, digits, CONFIG, masks=masks, folder=tmp_path)
    masks["0.weight"] = ~masks["0.weight"]
    with pytest.raises(ValueError, match="other settings, weights or data"):
        finetune(network, digits, CONFIG, masks=masks, folder=tmp_path)


def test_other_weights_refuse_the_checkpoint(network, digits, tmp_path):
    begin = copy.deepcopy(network)
    finetune(network, digits, CONFIG, folder=tmp_path)
    finetune(copy.deepcopy(begin), digits, CONFIG, folder=tmp_path)
    with torch.no_grad():
        next(begin.parameters()).mul_(2)
    with pytest.raises(ValueError, match="other settings, weights or data"):
        finetune(begin, digits, CONFIG, folder=tmp_path)


def test_tied_weights_may_be_masked_by_either_name(digits):
    first, second = nn.Linear(64, 64), nn.Linear(64, 64)
    second.weight = first.weight
    model = nn.Sequential(nn.Flatten(), first, second, nn.Linear(64, 10))
    mask = torch.rand(64, 64) > 0.5
    finetune(model, digits, {**CONFIG, "epochs": 1}, masks={"2.weight": mask})
    assert (first.weight[~mask] == 0).all()
