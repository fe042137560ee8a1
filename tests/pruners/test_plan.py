from __future__ import annotations

import json

import pytest
import torch

from pruners import Kept, Plan, PlanError, Target, fingerprint, measure
from pruners.units import select, unit_scores
from tests.pruners.conftest import make


def plan_for(net):
    target = Target.parse({"macs": "50%"})
    kept = Plan.keeping(net, select(net, unit_scores(net), target))
    sizes = {axis: len(entry.keep) for axis, entry in kept.items()}
    return Plan(
        pattern="channels",
        solver="magnitude",
        budget="global",
        asked=target.asked,
        achieved=measure(net, sizes),
        kept=kept,
        density={"conv1.weight": 0.5},
        provenance={"seed": 0, "versions": {"torch": torch.__version__}, **fingerprint(net)},
    )


def test_json_round_trip_is_exact_and_stable(cnn):
    plan = plan_for(cnn.net)
    text = plan.to_json()
    assert Plan.from_json(text) == plan
    assert Plan.from_json(text).to_json() == text
    assert json.loads(text)["kept"]["conv1.out"]["of"] == 12


def test_json_is_readable(cnn):
    lines = plan_for(cnn.net).to_json().splitlines()
    assert any(line.startswith('    "conv1.out": {"of": 12, "keep": [') for line in lines)
    assert '  "asked": {' in lines
    assert '    "macs": "50%"' in lines
    assert '    "conv1.weight": 0.5' in lines


def test_file_round_trip_and_replay_on_another_checkpoint(cnn, tmp_path):
    plan = plan_for(cnn.net)
    plan.save(tmp_path / "plan.json")
    other = make("cnn", seed=7)
    small = other.net.remove(Plan.load(tmp_path / "plan.json").removals(other.net))
    assert small.to_model()(*other.inputs).shape == (4, 5)
    assert {axis: small.axes[axis].size for axis in plan.sizes()} == plan.sizes()
    assert measure(small)["macs"] == plan.achieved["macs"]
    kept = plan.keeps(other.net)["conv1.out"]
    width = plan.keeps(other.net).get("stem.out", torch.arange(8))
    expected = other.net.tensors["conv1.weight"].value[kept][:, width]
    assert torch.equal(small.tensors["conv1.weight"].value, expected)


def test_an_edited_plan_does_what_it_says(cnn):
    content = json.loads(plan_for(cnn.net).to_json())
    content["kept"] = {"conv1.out": {"of": 12, "keep": [2, 5]}}
    small = cnn.net.remove(Plan.from_json(json.dumps(content)).removals(cnn.net))
    assert small.axes["conv1.out"].size == 2
    assert small.axes["stem.out"].size == 8


def test_whole_axes_are_left_out(cnn):
    everything = {axis: torch.arange(s.numel()) for axis, s in unit_scores(cnn.net).items()}
    assert Plan.keeping(cnn.net, everything) == {}
    assert Plan("channels", "magnitude", "global").removals(cnn.net) == {}
    whole = Plan("channels", "magnitude", "global", kept={"fc.out": Kept(5, (0, 1, 2, 3, 4))})
    assert whole.removals(cnn.net) == {}


def edit(**changes):
    base = {"pattern": "channels", "solver": "magnitude", "budget": "global"}
    return json.dumps(base | changes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", r"not valid JSON.*line 1"),
        ("[]", "must be an object"),
        (edit(speed=2), 'unknown key "speed"'),
        (json.dumps({"pattern": "channels"}), 'lacks the key "solver"'),
        (edit(format=2), "format 1"),
        (edit(pattern=3), '"pattern" of the plan must be a text .got 3'),
        (edit(solver=None), '"solver" of the plan must be a text'),
        (edit(asked={"flops": 2}), 'unknown target "flops"'),
        (edit(kept=[1]), '"kept" of the plan must be an object'),
        (edit(kept={"a": [1]}), 'kept axis "a" must be an object'),
        (edit(kept={"a": {"of": 3}}), 'lacks the key "keep"'),
        (edit(kept={"a": {"of": 3, "keep": [0], "drop": [1]}}), 'unknown key "drop"'),
        (edit(kept={"a": {"of": 3, "keep": 2}}), "list of indices"),
        (edit(kept={"a": {"of": 3, "keep": []}}), "without units"),
        (edit(kept={"a": {"of": 3, "keep": [3]}}), r"units 0 to 2, so 3"),
        (edit(kept={"a": {"of": 3, "keep": [-1]}}), r"units 0 to 2, so -1"),
        (edit(kept={"a": {"of": 3, "keep": [1, 1]}}), "ascending without repeats"),
        (edit(kept={"a": {"of": 3, "keep": [1.0]}}), "so 1.0"),
        (edit(kept={"a": {"of": "3", "keep": [1]}}), "number of units"),
        (edit(density={"w": 1.5}), 'density of "w"'),
        (edit(density={"w": "50%"}), 'density of "w"'),
    ],
)
def test_a_broken_plan_says_where(text, words, tmp_path):
    with pytest.raises(PlanError, match=words):
        Plan.from_json(text)
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(PlanError, match=r"broken\.json: "):
        Plan.load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kept": {"conv9.out": Kept(12, (0,))}}, '"conv9.out", which this network does not have'),
        ({"kept": {"conv1.out": Kept(16, (0,))}}, "made for 16 units .* this network has 12"),
        ({"kept": {"fc.out": Kept(5, (0,))}}, "cannot be pruned here: output"),
        ({"density": {"conv9.weight": 0.5}}, 'tensor "conv9.weight", which'),
    ],
)
def test_a_plan_that_does_not_fit_says_why(cnn, change, words):
    plan = Plan("channels", "magnitude", "global", **change)
    with pytest.raises(PlanError, match=words):
        plan.removals(cnn.net)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text("old")
    unwritable = Plan("channels", "m", "g", provenance={"rate": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        unwritable.save(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


def test_fingerprints_tell_weights_and_architectures_apart(cnn):
    same, other = make("cnn"), make("cnn", seed=3)
    assert fingerprint(same.net) == fingerprint(cnn.net)
    assert fingerprint(other.net)["architecture"] == fingerprint(cnn.net)["architecture"]
    assert fingerprint(other.net)["weights"] != fingerprint(cnn.net)["weights"]
    small = cnn.net.remove("conv1.out", [0])
    assert fingerprint(small)["architecture"] != fingerprint(cnn.net)["architecture"]
    half = cnn.net.replace({n: t.value.bfloat16() for n, t in cnn.net.tensors.items()})
    assert fingerprint(half)["weights"] != fingerprint(cnn.net)["weights"]
