from __future__ import annotations

import pytest
import torch
from torch import nn

from training import evaluate


def test_batches_do_not_change_the_figures(network, digits):
    network.eval()
    logits = network(digits.test.batch(torch.arange(447))[0])
    accuracy = float((logits.argmax(1) == digits.test.targets).float().mean())
    for size in (1, 100, 447, 1000):
        figures = evaluate(network, digits, batch_size=size)
        assert figures["accuracy"] == pytest.approx(accuracy)
    first = (logits[:60].argmax(1) == digits.test.targets[:60]).float().mean()
    assert evaluate(network, digits, limit=60)["accuracy"] == pytest.approx(float(first))


def test_the_model_is_left_as_it_was(network, digits):
    network.train()
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluate(network, digits, "validation")
    assert [module.training for module in network] == [True, False] + [True] * 5
    assert all(torch.equal(before[n], v) for n, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_modes_come_back_after_an_error(digits):
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("broken")

    model = Broken().train()
    with pytest.raises(RuntimeError, match="broken"):
        evaluate(model, digits)
    assert model.training


def test_unknown_split(network, digits):
    with pytest.raises(ValueError, match="train, validation or test"):
        evaluate(network, digits, "dev")
