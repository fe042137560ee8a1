"""Schedules: where they lead, what every step is, and that an interrupted one continues."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import metaprune
from metaprune.patterns import parse as parse_pattern
from metaprune.schedules import Iterative, parse
from metaprune.schedules.iterative import SPACINGS
from pruners import Target, UnreachableTargetError
from tests.metaprune.chains.networks import KINDS, SOURCES, build, outputs


def iterative(spacing: str = "geometric", steps: int = 3):
    return {"iterative": {"steps": steps, "spacing": spacing}}


@given(
    end=st.floats(0.02, 1.0), steps=st.integers(1, 12), spacing=st.sampled_from(sorted(SPACINGS))
)
def test_every_spacing_falls_from_everything_to_what_was_asked(end, steps, spacing):
    shares = [SPACINGS[spacing](end, i / steps) for i in range(steps + 1)]
    assert shares[0] == pytest.approx(1)
    assert shares[-1] == pytest.approx(end)
    assert all(a >= b - 1e-12 for a, b in pairwise(shares))


@pytest.mark.parametrize(
    ("kind", "spacing"),
    [
        pytest.param(kind, spacing, marks=[] if kind == "own" or quick else pytest.mark.slow)
        for kind in KINDS
        for spacing, quick in (("geometric", True), ("linear", False), ("cubic", False))
    ],
)
def test_three_steps_reach_the_target_save_open_and_replay(tmp_path, kind, spacing):
    model, inputs = build(kind)
    result = metaprune.prune(
        model, inputs, target={"macs": "50%"}, metanet=None, schedule=iterative(spacing),
        calibration=[inputs],
    )  # fmt: skip
    assert len(result.plan.steps) == 3
    assert result.report["asked"] == {"macs": "50%"}
    share = result.report["achieved"]["macs"] / result.report["dense"]["macs"]
    assert 0.3 < share <= 0.5
    opened = metaprune.load(result.save(tmp_path / "small", source=SOURCES.get(kind)), trust=True)
    torch.testing.assert_close(
        outputs(opened, inputs), outputs(result.model, inputs), rtol=1e-4, atol=1e-5
    )
    other = metaprune.apply(build(kind, seed=1)[0], inputs, result.plan)
    assert other.report["achieved"]["macs"] == result.report["achieved"]["macs"]


@pytest.mark.parametrize(
    "pattern",
    [
        "block:2x2",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("unstructured", "row", "column")),
    ],
)
def test_masks_grow_sparser_step_by_step(pattern):
    model, inputs = build("own")
    result = metaprune.prune(
        model, inputs, pattern=pattern, target={"sparsity": 0.6}, metanet=None,
        schedule=iterative("cubic"), calibration=[(torch.randn(64, 8),)],
    )  # fmt: skip
    sparsities = [step.achieved["sparsity"] for step in result.plan.steps]
    assert sparsities == sorted(sparsities)
    assert result.report["achieved"]["sparsity"] == pytest.approx(0.6, abs=0.03)
    assert result.report["achieved"]["sparsity"] >= 0.6


def test_one_step_is_one_shot():
    model, inputs = build("own")
    options = {"target": {"macs": "60%"}, "metanet": None, "calibration": [inputs]}
    one = metaprune.prune(model, inputs, **options)
    same = metaprune.prune(model, inputs, **options, schedule=iterative(steps=1))
    assert torch.equal(outputs(one.model, inputs), outputs(same.model, inputs))


@pytest.mark.parametrize("stopped", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("pattern", ["channels", "unstructured"])
def test_resumed_it_is_bit_for_bit_the_uninterrupted_one(tmp_path, monkeypatch, stopped, pattern):
    from metaprune.schedules import run

    model, inputs = build("resnet")
    options = {
        "pattern": pattern, "metanet": None, "calibration": [inputs], "schedule": iterative(),
        "target": {"macs": "50%"} if pattern == "channels" else {"sparsity": 0.5},
    }  # fmt: skip
    whole = metaprune.prune(model, inputs, **options)
    done, apply_step = [], run.apply_step

    def interrupted(*given):
        if len(done) == stopped:
            raise KeyboardInterrupt
        done.append(None)
        return apply_step(*given)

    monkeypatch.setattr(run, "apply_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        metaprune.prune(model, inputs, **options, checkpoints=tmp_path / "steps")
    monkeypatch.setattr(run, "apply_step", lambda *given: done.append(None) or apply_step(*given))
    done.clear()
    resumed = metaprune.prune(model, inputs, **options, checkpoints=tmp_path / "steps")
    assert len(done) == 3 - stopped
    expected, found = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert resumed.plan.steps == whole.plan.steps
    assert all(torch.equal(resumed.masks[name], mask) for name, mask in whole.masks.items())
    assert resumed.report["achieved"] == whole.report["achieved"]
    with pytest.raises(ValueError, match="holds the steps of another pruning"):
        metaprune.prune(
            model, inputs, **{**options, "schedule": iterative(steps=2)},
            checkpoints=tmp_path / "steps",
        )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["channels", "unstructured"])
def test_every_step_of_a_search_has_a_journal_of_its_own(tmp_path, pattern):
    model, inputs = build("own")
    x = torch.randn(512, 8)
    options = {
        "pattern": pattern, "metanet": None, "schedule": iterative(steps=2),
        "calibration": [(part,) for part in x.split(64)],
        "target": {"macs": "60%"} if pattern == "channels" else {"sparsity": 0.4},
        "budget": {
            "rule": "expected-loss", "evaluations": 8, "journal": str(tmp_path / "log.jsonl"),
        },
    }  # fmt: skip
    one = metaprune.prune(model, inputs, **options)
    assert {path.name for path in tmp_path.iterdir()} == {"log-01.jsonl", "log-02.jsonl"}
    again = metaprune.prune(model, inputs, **options)
    assert again.plan.steps == one.plan.steps


def test_other_weights_do_not_continue_the_steps_of_these(tmp_path):
    options = {"target": {"macs": "60%"}, "metanet": None, "schedule": iterative(steps=2)}
    model, inputs = build("own")
    metaprune.prune(model, inputs, **options, checkpoints=tmp_path / "steps")
    with pytest.raises(ValueError, match="other settings, weights or data"):
        metaprune.prune(build("own", 1)[0], inputs, **options, checkpoints=tmp_path / "steps")


@pytest.mark.parametrize("what", ["calibration", "weights since the first pruning"])
def test_steps_belong_to_what_they_started_from(tmp_path, what):
    model, inputs = build("own")
    start = metaprune.prune(model, inputs, target={"macs": "80%"}, metanet=None).model
    options = {
        "target": {"macs": "60%"}, "metanet": None, "schedule": iterative(steps=2),
        "checkpoints": tmp_path / "steps",
    }  # fmt: skip
    metaprune.prune(start, inputs, **options, calibration=[inputs])
    batches = [(torch.randn(16, 8),)] if what == "calibration" else [inputs]
    if what != "calibration":
        with torch.no_grad():
            start.stem.weight.mul_(2)
    with pytest.raises(ValueError, match="holds the steps of another pruning"):
        metaprune.prune(start, inputs, **options, calibration=batches)


def test_steps_that_earlier_masks_have_met_are_left_out():
    model, inputs = build("own")
    options = {"pattern": "unstructured", "metanet": None}
    half = metaprune.prune(model, inputs, **options, target={"sparsity": 0.5})
    most = metaprune.prune(
        half.model, inputs, **options, target={"sparsity": 0.8}, schedule=iterative()
    )
    asked = [step.asked["sparsity"] for step in most.plan.steps]
    assert asked == [0.5, pytest.approx(1 - 0.2 ** (2 / 3)), 0.8]
    with pytest.raises(UnreachableTargetError, match=r"above 0\.8"):
        metaprune.prune(
            most.model, inputs, **options, target={"sparsity": 0.6}, schedule=iterative()
        )


@pytest.mark.parametrize("spacing", sorted(SPACINGS))
@pytest.mark.parametrize("steps", [1, 3, 7])
@pytest.mark.parametrize("asked", [{"units": 77}, {"speedup": 3}, {"params": 2001}])
def test_the_last_target_is_the_very_one_that_was_asked(spacing, steps, asked):
    model, inputs = build("own")
    net, target = metaprune.trace(model, inputs), Target.parse(asked)
    schedule = parse(iterative(spacing, steps))
    last = schedule.targets(net, target, parse_pattern("channels"))[-1]
    assert last.limits(net) == target.limits(net)


@pytest.mark.parametrize(
    ("pattern", "target"), [("channels", {"speedup": 1e9}), ("unstructured", {"params": "1%"})]
)
def test_what_nothing_reaches_is_refused_before_the_first_step(tmp_path, pattern, target):
    model, inputs = build("own")
    with pytest.raises(UnreachableTargetError, match="out of reach"):
        metaprune.prune(
            model, inputs, pattern=pattern, target=target, metanet=None, schedule=iterative(),
            checkpoints=tmp_path / "steps",
        )  # fmt: skip
    assert not (tmp_path / "steps").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedule": "iteratve"}, r'unknown schedule "iteratve" \(did you mean "iterative"'),
        ({"schedule": {"iterative": {"step": 2}}}, r'"step" \(did you mean "steps"'),
        ({"schedule": {"iterative": {"steps": 0}}}, "steps must be 1 or more"),
        ({"schedule": iterative("cubik")}, r'"cubik" \(did you mean "cubic"'),
        ({"schedule": iterative(), "pattern": "2:4", "target": None}, "leaves no choice"),
        ({"schedule": iterative(), "pattern": "low-rank"}, "is found in one step"),
    ],
)
def test_what_makes_no_sense_is_refused(options, words):
    model, inputs = build("own")
    with pytest.raises(ValueError, match=words):
        metaprune.prune(model, inputs, **{"target": {"macs": "60%"}, "metanet": None, **options})


def test_targets_are_shares_of_the_dense_network():
    model, inputs = build("own")
    net = metaprune.trace(model, inputs)
    dense = metaprune.prune(model, inputs, target={"macs": "99%"}, metanet=None).report["dense"]
    for steps in Iterative(4, "linear").targets(
        net, Target.parse({"speedup": 2.0}), parse_pattern("channels")
    ):
        assert set(steps.asked) == {"macs"}
    last = parse("iterative").targets(
        net, Target.parse({"macs": "30%"}), parse_pattern("channels")
    )[-1]
    assert last.asked["macs"] == pytest.approx(0.3 * dense["macs"])
