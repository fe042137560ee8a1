from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from graphs.tools.files import read_tensors
from training import FitConfig, evaluate, fit
from training.fitting.run import CHECKPOINT

CONFIG = {"epochs": 3, "batch_size": 40, "lr": 0.05, "device": "cpu"}


class Interrupted(Exception):
    pass


def interrupt_at(step):
    """Return a callback that stops a run after some steps, as a crash would."""
    taken = 0

    def after_step(model):
        nonlocal taken
        taken += 1
        if taken == step:
            raise Interrupted

    return after_step


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(("step", "every"), [(7, 3), (10, 5), (11, 5), (5, 1), (9, None)])
def test_resumed_equals_uninterrupted(network, digits, tmp_path, optimizer, step, every):
    config = {**CONFIG, "optimizer": optimizer, "checkpoint_every": every}
    whole = copy.deepcopy(network)
    expected = fit(whole, digits, config)
    parts = copy.deepcopy(network)
    with pytest.raises(Interrupted):
        fit(parts, digits, config, folder=tmp_path, after_step=interrupt_at(step))
    resumed = copy.deepcopy(network)
    result = fit(resumed, digits, config, folder=tmp_path)
    assert_same(state(whole), state(resumed))
    assert (result.history, result.last, result.best) == (
        expected.history,
        expected.last,
        expected.best,
    )


def test_a_finished_run_is_not_repeated(network, digits, tmp_path):
    first = fit(network, digits, CONFIG, folder=tmp_path)
    trained = state(network)
    again = fit(network, digits, CONFIG, folder=tmp_path, after_step=interrupt_at(1))
    assert again == first
    assert_same(trained, state(network))


def test_other_settings_refuse_the_checkpoint(network, digits, tmp_path):
    fit(network, digits, CONFIG, folder=tmp_path)
    with pytest.raises(ValueError, match="other settings, weights or data"):
        fit(network, digits, {**CONFIG, "lr": 0.01}, folder=tmp_path)
    with pytest.raises(ValueError, match="other settings, weights or data"):
        fit(network, digits, CONFIG, folder=tmp_path, tag="masks")


def test_damaged_checkpoint(network, digits, tmp_path):
    fit(network, digits, {**CONFIG, "epochs": 1}, folder=tmp_path)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(whole[:100])
    with pytest.raises(ValueError, match="not a readable safetensors"):
        read_tensors(tmp_path / CHECKPOINT)


def test_seed_decides_and_global_randomness_neither_enters_nor_changes(network, digits):
    runs = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        model = copy.deepcopy(network)
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        fit(model, digits, {**CONFIG, "epochs": 1, "seed": seed})
        assert torch.equal(torch.get_rng_state(), before)
        runs.append(state(model))
    assert_same(runs[0], runs[1])
    assert not torch.equal(runs[0]["0.weight"], runs[2]["0.weight"])


def test_it_learns_and_ends_with_the_best_weights(network, digits):
    before = evaluate(network, digits, "validation")["accuracy"]
    result = fit(network, digits, {**CONFIG, "epochs": 8, "lr": 0.2, "schedule": "constant"})
    assert result.best["accuracy"] == max(entry["accuracy"] for entry in result.history)
    assert result.best["accuracy"] > before + 0.3
    assert result.best == evaluate(network, digits, "validation")
    assert result.last == {k: result.history[-1][k] for k in ("accuracy", "loss")}


def test_evaluate_first_never_ends_worse(network, digits):
    fit(network, digits, {**CONFIG, "epochs": 8, "lr": 0.2})
    before = evaluate(network, digits, "validation")
    result = fit(network, digits, {**CONFIG, "lr": 3.0, "clip": 100.0, "evaluate_first": True})
    assert result.history[0]["accuracy"] == before["accuracy"]
    assert evaluate(network, digits, "validation")["accuracy"] >= before["accuracy"]


def test_modes_are_left_as_they_were(network, digits):
    network.eval()
    network[1].train()
    fit(network, digits, {**CONFIG, "epochs": 1})
    assert [module.training for module in network] == [False, True] + [False] * 5


def test_gradient_is_clipped(network, digits):
    before = state(network)
    lr = 1.0
    fit(network, digits, {**CONFIG, "epochs": 1, "batch_size": 200, "lr": lr, "momentum": 0.0,
        "weight_decay": 0.0, "warmup": 0.0, "clip": 1e-3})  # fmt: skip
    parameters = dict(network.named_parameters())
    moved = torch.cat([(parameters[n] - before[n]).detach().flatten() for n in parameters])
    assert float(moved.norm()) == pytest.approx(lr * 1e-3, rel=1e-2)


def test_bfloat16_trains_in_the_same_process(network, digits):
    fit(network, digits, {**CONFIG, "epochs": 1})
    result = fit(network, digits, {**CONFIG, "epochs": 2, "mixed_precision": "bf16"})
    assert result.history[-1]["train_loss"] < 2.3
    assert network[0].weight.dtype == torch.float32
    assert network(torch.zeros(1, 1, 8, 8)).dtype == torch.float32


def test_a_loss_that_is_not_finite(network, digits):
    def broken(model, batch):
        return model(batch[0]).sum() * float("nan")

    with pytest.raises(FloatingPointError, match=r"nan at step 0 .*lower lr"):
        fit(network, digits, CONFIG, loss=broken)


def test_tied_weights_survive_a_checkpoint(digits, tmp_path):
    first = nn.Linear(64, 64)
    second = nn.Linear(64, 64)
    second.weight = first.weight
    model = nn.Sequential(nn.Flatten(), first, second, nn.Linear(64, 10))
    fit(model, digits, {**CONFIG, "epochs": 1}, folder=tmp_path)
    assert model[1].weight is model[2].weight
    tensors, _ = read_tensors(tmp_path / CHECKPOINT)
    assert "model/1.weight" in tensors
    assert "model/2.weight" not in tensors


def _train(folder):
    from training import data

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    fit(model, data.load("digits", augment=True), FitConfig(**CONFIG), folder=folder)


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(tmp_path):
    from accelerate import debug_launcher

    _train(tmp_path / "one")
    debug_launcher(_train, args=(tmp_path / "two",), num_processes=2)
    one, _ = read_tensors(tmp_path / "one" / CHECKPOINT)
    two, _ = read_tensors(tmp_path / "two" / CHECKPOINT)
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-4, rtol=1e-4)
