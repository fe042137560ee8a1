"""Training a part of a network: the rest stays, masks are exact, merged weights say the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.training.recovery.test_finetune import CONFIG, half_masks
from training import evaluate, finetune, fit
from training.recovery.masked import constraint_of
from training.recovery.partial import partly_trained


def pruned(network, digits):
    fit(network, digits, {**CONFIG, "epochs": 4, "lr": 0.2})
    masks = half_masks(network)
    constraint_of(network, masks)(network)
    return masks


@pytest.mark.parametrize("part", ["all", "vectors", "low-rank"])
def test_it_recovers_and_keeps_masks(part, network, digits):
    masks = pruned(network, digits)
    before = copy.deepcopy(network)
    settings = {**CONFIG, "epochs": 6, "lr": 0.05, "part": part}
    result = finetune(network, digits, settings, masks=masks)
    now = dict(network.named_parameters())
    for name, was in before.named_parameters():
        moved = not torch.equal(now[name], was)
        assert moved == (part != "vectors" or was.ndim == 1)
        if name in masks:
            assert bool((now[name][~masks[name]] == 0).all())
    assert result.best["loss"] < result.history[0]["loss"]
    assert evaluate(network, digits, "validation")["loss"] == pytest.approx(
        result.best["loss"], rel=1e-4
    )
    assert now.keys() == dict(before.named_parameters()).keys()
    assert network.state_dict().keys() == before.state_dict().keys()
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("rank", [1, 3])
def test_updates_have_their_rank(rank, network, digits):
    before = copy.deepcopy(network)
    finetune(network, digits, {**CONFIG, "part": "low-rank", "rank": rank, "evaluate_first": False})
    now = dict(network.named_parameters())
    for name, was in before.named_parameters():
        if was.ndim > 1:
            change = (now[name] - was).detach().flatten(1).double()
            singular = torch.linalg.svdvals(change)
            assert int((singular > 1e-4 * singular[0]).sum()) <= rank


def test_training_starts_at_the_network_as_it_is(network):
    x, masks = torch.randn(3, 1, 8, 8), half_masks(network)
    network.eval()
    before = network(x)
    with partly_trained(network, "low-rank", masks):
        torch.testing.assert_close(network(x), before)
    torch.testing.assert_close(network(x), before)


def test_a_resumed_run_equals_an_uninterrupted_one(network, digits, tmp_path):
    masks = half_masks(network)
    settings = {**CONFIG, "part": "low-rank", "epochs": 2}
    whole, parts = copy.deepcopy(network), copy.deepcopy(network)
    finetune(whole, digits, settings, masks=masks)

    class Stopped(Exception):
        pass

    steps = [0]

    def stop(*_):
        steps[0] += 1
        if steps[0] == 4:
            raise Stopped

    hook = parts.register_forward_hook(stop)
    with pytest.raises(Stopped):
        finetune(parts, digits, {**settings, "checkpoint_every": 1}, masks=masks, folder=tmp_path)
    hook.remove()
    again = copy.deepcopy(network)
    finetune(again, digits, {**settings, "checkpoint_every": 1}, masks=masks, folder=tmp_path)
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_shared_weights_and_embeddings_get_no_update():
    model = nn.ModuleDict({"table": nn.Embedding(4, 6), "a": nn.Linear(6, 4), "b": nn.Linear(6, 6)})
    model["a"].weight = model["table"].weight
    with partly_trained(model, "low-rank", {}):
        assert [name for name, _ in model.named_parameters() if "down" in name] == [
            "b.parametrizations.weight.0.down"
        ]
    assert model["a"].weight is model["table"].weight


def test_a_network_without_vectors_is_refused():
    model = nn.Linear(3, 3, bias=False)
    with pytest.raises(ValueError, match="no vectors"), partly_trained(model, "vectors", {}):
        pass
    assert model.weight.requires_grad


@pytest.mark.parametrize("options", [{"part": "heads"}, {"rank": 0}])
def test_settings_that_make_no_sense_are_refused(options, network, digits):
    with pytest.raises(ValueError, match=next(iter(options))):
        finetune(network, digits, {**CONFIG, **options})


@pytest.mark.parametrize("part", ["all", "vectors", "low-rank"])
@pytest.mark.parametrize("failed", [False, True])
def test_parameters_keep_their_places(part, failed):
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2), nn.ConvTranspose2d(8, 4, 3, groups=2), nn.GRU(4, 3)
    )
    model[0].weight.requires_grad_(False)
    before = {name: (id(p), p.requires_grad) for name, p in model.named_parameters()}
    try:
        with partly_trained(model, part, {}):
            if failed:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    after = {name: (id(p), p.requires_grad) for name, p in model.named_parameters()}
    assert list(after.items()) == list(before.items())
