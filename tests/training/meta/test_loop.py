"""Meta-training: reproducible, resumable, unbiased where it must be, better than where it began."""

from __future__ import annotations

import pytest
import torch

import metanet
from tests.training.meta.conftest import SMALL, settings
from training.meta import meta_train


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


def test_bad_settings_are_refused(subjects):
    train, held_out = subjects
    with pytest.raises(
        ValueError, match='unknown objective "wish": expected one of policy-gradient'
    ):
        meta_train(metanet.build(SMALL), train, held_out, {"objective": "wish"})
    with pytest.raises(ValueError, match='unknown setting "speed"'):
        meta_train(metanet.build(SMALL), train, held_out, {"speed": 1})


def test_patience_ends_a_run_that_stopped_improving(subjects):
    train, held_out = subjects
    result = meta_train(
        metanet.build(SMALL), train, held_out, settings(steps=6, judge_every=1, lr=0.0, patience=2)
    )
    assert result.steps == 3
