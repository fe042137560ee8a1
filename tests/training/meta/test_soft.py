"""Hard decisions have a gradient that leaves the cost alone, and statistics stay as they were."""

from __future__ import annotations

import pytest
import torch

from graphs.cost import count_macs
from pruners.units import base_scores
from training.meta.soft import BatchStatistics, decided_masks


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_masks_meet_the_share(subjects, share):
    net = subjects[0][0].net
    masks = decided_masks(net, None, share)
    sizes = {a: int(m.sum()) for a, m in masks.items()}
    assert count_macs(net, sizes) <= share * count_macs(net)
    assert all(set(m.unique().tolist()) <= {0.0, 1.0} for m in masks.values())


def test_straight_through_gradient_leaves_the_cost_alone(subjects):
    """Raising all scores alike changes nothing: the threshold follows."""
    net = subjects[0][0].net
    shift = torch.zeros((), requires_grad=True)
    logits = {a: shift + torch.zeros(len(s)) for a, s in base_scores(net).items()}
    masks = decided_masks(net, logits, 0.5)
    costs = {a: count_macs(net) - count_macs(net, {a: net.axes[a].size - 1}) for a in masks}
    sum((costs[a] * m).sum() for a, m in masks.items()).backward()
    assert abs(shift.grad) < 1e-3 * sum(costs[a] * len(m) for a, m in masks.items())


def test_batch_statistics_leave_running_ones_alone(subjects):
    subject = next(t for t in subjects[0] if t.name.startswith("residual"))
    before = {k: v.clone() for k, v in subject.model.state_dict().items()}
    batch = subject.batch(64, torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = subject.data.task.forward(subject.model, batch)
        with BatchStatistics():
            moved = subject.data.task.forward(subject.model, batch)
    assert not torch.equal(plain, moved)
    assert all(torch.equal(v, before[k]) for k, v in subject.model.state_dict().items())
