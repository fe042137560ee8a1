"""Draws of examples: intervals cover, pairs share what is hard, the same seed draws the same."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.data.tasks import IGNORED, Classification, LanguageModelling
from training.fitting.chance import behind, drawn_means, interval


def answers(right: torch.Tensor) -> torch.Tensor:
    return torch.stack([right.double(), torch.ones(len(right)).double()], 1)


def test_intervals_are_those_of_a_share_of_independent_answers():
    right = torch.rand(2000, generator=torch.Generator().manual_seed(0)) < 0.8
    low, high = interval(drawn_means([answers(right)])[:, 0])
    share = float(right.double().mean())
    error = 1.96 * math.sqrt(share * (1 - share) / 2000)
    assert low == pytest.approx(share - error, abs=0.15 * error)
    assert high == pytest.approx(share + error, abs=0.15 * error)


def test_what_is_hard_for_both_is_nobodys_fault():
    """Losses that differ much between examples and little between networks can be told apart."""
    random = torch.Generator().manual_seed(0)
    hard = 5 * torch.rand(300, generator=random, dtype=torch.float64)
    one, other = (torch.stack([hard + gap, torch.ones(300)], 1) for gap in (0.0, 0.05))
    means = drawn_means([one, other])
    assert behind(means[:, 1], means[:, 0], higher_is_better=False)
    assert not behind(means[:, 0], means[:, 1], higher_is_better=False)
    (low, high), (_, upper) = interval(means[:, 0]), interval(means[:, 1])
    assert high > float(means[:, 1].mean())  # apart they could not
    assert low < upper


@given(st.integers(1, 50), st.integers(0, 5))
def test_nobody_is_behind_himself_and_one_of_two_at_most(count, seed):
    random = torch.Generator().manual_seed(seed)
    one, other = (answers(torch.rand(count, generator=random) < 0.5) for _ in range(2))
    means = drawn_means([one, other, one], draws=20)
    assert torch.equal(means[:, 0], means[:, 2])
    assert not behind(means[:, 0], means[:, 2], higher_is_better=True)
    assert not all(behind(means[:, i], means[:, 1 - i], higher_is_better=True) for i in (0, 1))
    assert torch.equal(means, drawn_means([one, other, one], draws=20))


def test_the_score_of_all_outcomes_is_the_metric():
    logits = torch.randn(7, 5, 11, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(35).reshape(7, 5) % 11
    targets[0, 2:] = IGNORED
    for task, outputs, labels in (
        (LanguageModelling(11), logits, targets),
        (Classification(11), logits[:, 0], targets[:, 0]),
    ):
        batch = (torch.zeros(7), labels)

        class Split:
            bytes_per_token = None

        metrics = task.metrics(Split())
        metrics.update(outputs, batch)
        sums, counts = task.outcomes(outputs, batch).sum(0).tolist()
        assert task.score_of(sums / counts) == pytest.approx(metrics.compute()[task.score], 1e-5)


def test_outcomes_of_other_examples_are_refused():
    with pytest.raises(ValueError, match="of the same N examples"):
        drawn_means([torch.ones(3, 2), torch.ones(4, 2)])
    with pytest.raises(ValueError, match="at least one"):
        drawn_means([])
