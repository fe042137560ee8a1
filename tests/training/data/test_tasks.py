from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from training.data import Split
from training.data.tasks import IGNORED, Classification, LanguageModelling, logits


def split(bytes_per_token=None):
    return Split(torch.zeros(1, 1), torch.zeros(1, 1), bytes_per_token=bytes_per_token)


def test_accuracy_and_loss_are_means_over_examples_not_batches():
    task = Classification(4)
    outputs, targets = torch.randn(7, 4), torch.randint(4, (7,))
    metrics = task.metrics(split())
    for part in (slice(0, 5), slice(5, 7)):
        metrics.update(outputs[part], (outputs[part], targets[part]))
    figures = metrics.compute()
    assert figures["accuracy"] == pytest.approx(
        float((outputs.argmax(1) == targets).float().mean())
    )
    assert figures["loss"] == pytest.approx(float(F.cross_entropy(outputs, targets)), rel=1e-5)


def test_perplexity_and_bits_per_byte_skip_ignored_positions():
    task = LanguageModelling(5)
    outputs, targets = torch.randn(2, 3, 5), torch.randint(5, (2, 3))
    targets[1, 2] = IGNORED
    metrics = task.metrics(split(bytes_per_token=2.5))
    metrics.update(outputs, (targets, targets))
    figures = metrics.compute()
    nats = float(
        -outputs.log_softmax(-1)
        .gather(2, targets.clamp_min(0)[..., None])[..., 0][targets >= 0]
        .mean()
    )
    assert figures["loss"] == pytest.approx(nats, rel=1e-5)
    assert figures["perplexity"] == pytest.approx(math.exp(nats), rel=1e-5)
    assert figures["bits_per_byte"] == pytest.approx(nats / math.log(2) / 2.5, rel=1e-5)
    assert float(task.loss(outputs, (targets, targets))) == pytest.approx(nats, rel=1e-5)


def test_logits_are_found_in_every_kind_of_output():
    tensor = torch.ones(1)
    for outputs in (tensor, (tensor, None), {"logits": tensor}, SimpleNamespace(logits=tensor)):
        assert logits(outputs) is tensor
    with pytest.raises(TypeError, match="must return logits"):
        logits("text")


def test_example_inputs():
    batch = (torch.zeros(2, 3), torch.zeros(2))
    assert Classification(2).example_inputs(batch)[0] is batch[0]
    assert LanguageModelling(2).example_inputs(batch)["input_ids"] is batch[0]
