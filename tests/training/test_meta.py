"""Meta-training: reproducible, resumable, unbiased where it must be, better than where it began."""

from __future__ import annotations

import pytest
import torch

import metanet
from graphs.cost import count_macs
from metanet import Transformation
from pruners.units import base_scores, mask_values
from training.meta import OBJECTIVES, judge, meta_train, subjects_of
from training.meta.judge import shrink
from training.meta.objectives import policy_gradient
from training.meta.soft import BatchStatistics, decided_masks, divergence, outputs
from training.zoo import build_zoo

SMALL = {"name": "streaming", "hidden": 8, "layers": 1, "heads": 2}


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    build_zoo(
        {
            "folder": str(folder),
            "members": 2,
            "held_out": 1,
            "families": ("residual", "plain"),
            "fit": {"epochs": 1, "lr": 0.05, "batch_size": 50},
        }
    )
    return subjects_of([folder], "train"), subjects_of([folder], "held_out")


def settings(**changes):
    return {
        "steps": 4,
        "networks": 2,
        "batch_size": 32,
        "judge_every": 2,
        "checkpoint_every": 2,
        **changes,
    }


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


def test_resumed_run_equals_uninterrupted_one(subjects, tmp_path):
    train, held_out = subjects
    whole = metanet.build(SMALL)
    expected = meta_train(whole, train, held_out, settings())

    class Interrupted(Exception):
        pass

    def interrupt(step, loss, judgement):
        if step == 2:
            raise Interrupted

    parts = metanet.build(SMALL)
    with pytest.raises(Interrupted):
        meta_train(parts, train, held_out, settings(), folder=tmp_path, report=interrupt)
    parts = metanet.build(SMALL)
    result = meta_train(parts, train, held_out, settings(), folder=tmp_path)
    assert result == expected
    for key, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[key]), key


def test_checkpoint_of_another_run_is_refused(subjects, tmp_path):
    train, held_out = subjects
    meta_train(metanet.build(SMALL), train, held_out, settings(), folder=tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        meta_train(metanet.build(SMALL), train, held_out, settings(seed=1), folder=tmp_path)


def test_untrained_metanetwork_is_judged_equal_to_the_base_rule(subjects):
    judged = judge(metanet.build(SMALL), subjects[1])
    assert judged.advised == judged.base
    assert judged.wins == 0


def test_bad_settings_are_refused(subjects):
    train, held_out = subjects
    with pytest.raises(
        ValueError, match='unknown objective "wish": expected one of policy-gradient'
    ):
        meta_train(metanet.build(SMALL), train, held_out, {"objective": "wish"})
    with pytest.raises(ValueError, match='unknown setting "speed"'):
        meta_train(metanet.build(SMALL), train, held_out, {"speed": 1})


def test_shrinking_keeps_the_best_factor(subjects):
    meta = metanet.build(SMALL)
    with torch.no_grad():
        for head in (meta.unit_head, meta.axis_head):
            torch.nn.init.normal_(head[-1].weight, generator=torch.Generator().manual_seed(0))
    bound, before = meta.logit_bound, judge(meta, subjects[1])
    chosen = shrink(meta, subjects[1])
    assert meta.logit_bound == meta.config["logit_bound"] == bound * chosen["shrinkage"]
    assert judge(meta, subjects[1]).advised == chosen["advised"] <= before.advised


def test_patience_ends_a_run_that_stopped_improving(subjects):
    train, held_out = subjects
    result = meta_train(
        metanet.build(SMALL), train, held_out, settings(steps=6, judge_every=1, lr=0.0, patience=2)
    )
    assert result.steps == 3
