"""Every objective trains a metanetwork."""

from __future__ import annotations

import pytest
import torch

import metanet
from metanet import Transformation
from pruners.units import base_scores, mask_values
from tests.training.meta.conftest import SMALL, settings
from training.meta import OBJECTIVES, meta_train
from training.meta.objectives import policy_gradient
from training.meta.soft import decided_masks, divergence, outputs


def test_policy_gradient_follows_the_slope(subjects):
    """Averaged over draws, a step against the estimate lowers the expected divergence."""
    subject, share = subjects[0][0], 0.5
    random = torch.Generator().manual_seed(0)
    batch = subject.batch(128, random)
    with torch.no_grad():
        dense = subject.data.task.forward(subject.model, batch)

    def loss(corrections):
        masks = decided_masks(subject.net, corrections, share)
        values = {k: v.detach() for k, v in mask_values(subject.net, masks).items()}
        with torch.no_grad():
            return float(divergence(outputs(subject.model, values, subject.data, batch), dense))

    logits = {
        a: torch.zeros(len(s), requires_grad=True) for a, s in base_scores(subject.net).items()
    }
    zero = {a: torch.zeros(()) for a in logits}
    for _ in range(40):
        policy_gradient(
            subject, Transformation({}, logits, zero, {}), share, batch, random
        ).backward()
    step = {a: -0.5 * x.grad / x.grad.norm() for a, x in logits.items()}

    def expected(shift):
        fresh = torch.Generator().manual_seed(1)
        draws = [
            {a: shift[a] + 0.2 * torch.randn(len(x), generator=fresh) for a, x in logits.items()}
            for _ in range(16)
        ]
        return sum(map(loss, draws)) / len(draws)

    assert expected(step) < expected({a: torch.zeros_like(x) for a, x in step.items()})


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_trains_the_metanetwork(subjects, name):
    train, held_out = subjects
    meta = metanet.build(SMALL)
    before = {k: v.clone() for k, v in meta.state_dict().items()}
    random = torch.Generator().manual_seed(0)
    advice = meta(train[0].net, train[0].evidence(0), 0.5)
    loss = OBJECTIVES.find(name)(train[0], advice, 0.5, train[0].batch(32, random), random)
    loss.backward()
    assert torch.isfinite(loss)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in meta.parameters())
    result = meta_train(meta, train, held_out, settings(objective=name, steps=2, lr=1e-2))
    assert result.steps == 2
    assert any(not torch.equal(v, before[k]) for k, v in meta.state_dict().items())
