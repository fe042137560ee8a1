"""A schedule from outside: it prunes in steps, continues after an interruption, and is saved."""

from __future__ import annotations

import pytest
import torch

import metaprune
from tests.extensions.networks import SOURCE, batches, mlp

EXAMPLE = (batches()[0],)


def prune(**settings):
    asked = {"target": {"sparsity": 0.6}, "pattern": "unstructured", "metanet": None, **settings}
    return metaprune.prune(mlp(), EXAMPLE, calibration=batches(), **asked)


@pytest.mark.parametrize(
    ("pattern", "target", "metric"),
    [("unstructured", {"sparsity": 0.6}, "sparsity"), ("channels", {"macs": "40%"}, "macs")],
)
def test_every_step_goes_half_of_the_way(add, reopened, pattern, target, metric):
    add("schedule")
    result = prune(pattern=pattern, target=target, schedule={"halving": {"steps": 3}})
    assert len(result.plan.steps) == 3
    reached = [step.achieved[metric] for step in result.plan.steps]
    if metric == "sparsity":
        assert reached == pytest.approx([0.3, 0.45, 0.6], abs=0.01)
    else:
        dense = result.report["dense"]["macs"]
        assert [x / dense for x in reached] == pytest.approx([0.7, 0.55, 0.4], abs=0.06)
        assert result.report["achieved"]["macs"] <= 0.4 * dense
    assert result.report["asked"] == target
    reopened(result, source=SOURCE)


def test_its_steps_are_kept_and_give_the_same_again(add, tmp_path):
    add("schedule")
    first = prune(schedule="halving", checkpoints=tmp_path / "steps")
    assert len(list((tmp_path / "steps").glob("step-*"))) == 3
    again = prune(schedule="halving", checkpoints=tmp_path / "steps")
    assert all(map(torch.equal, first.model.parameters(), again.model.parameters()))


def test_what_cannot_be_is_refused(add):
    with pytest.raises(ValueError, match='unknown schedule "halving"'):
        prune(schedule="halving")
    add("schedule")
    with pytest.raises(ValueError, match=r'schedule\.halving\.step: unknown setting "step"'):
        prune(schedule={"halving": {"step": 2}})
    with pytest.raises(ValueError, match='pattern "low-rank" is found in one step'):
        prune(schedule="halving", pattern="low-rank", target={"params": "60%"})
