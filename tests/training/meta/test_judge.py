"""Advice is judged against the rule that it corrects."""

from __future__ import annotations

import torch

import metanet
from tests.training.meta.conftest import SMALL
from training.meta import judge
from training.meta.judge import shrink


def test_untrained_metanetwork_is_judged_equal_to_the_base_rule(subjects):
    judged = judge(metanet.build(SMALL), subjects[1])
    assert judged.advised == judged.base
    assert judged.wins == 0


def test_shrinking_keeps_the_best_factor(subjects):
    meta = metanet.build(SMALL)
    with torch.no_grad():
        for head in (meta.unit_head, meta.axis_head):
            torch.nn.init.normal_(head[-1].weight, generator=torch.Generator().manual_seed(0))
    bound, before = meta.logit_bound, judge(meta, subjects[1])
    chosen = shrink(meta, subjects[1])
    assert meta.logit_bound == meta.config["logit_bound"] == bound * chosen["shrinkage"]
    assert judge(meta, subjects[1]).advised == chosen["advised"] <= before.advised
