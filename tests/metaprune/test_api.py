"""From a model and a target to a plan and a pruned model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import metaprune
from metaprune.calibration import Calibration
from pruners import Plan, PlanError, UnreachableTargetError, budgets
from pruners.solvers import SOLVERS
from tests.metaprune.networks import cnn, digits, images, mlp, restless_metanet


def outputs(model, inputs=None):
    with torch.no_grad():
        return model.eval()(*(inputs or images()))


def macs(report):
    return report["achieved"]["macs"]


@pytest.mark.parametrize("budget", ["global", "uniform"])
@pytest.mark.parametrize("target", [{"macs": "50%"}, {"speedup": 2, "params": "60%"}])
def test_channels_meet_the_target_and_leave_the_original(budget, target):
    model = cnn()
    before = copy.deepcopy(model.state_dict())
    result = metaprune.prune(
        model, images(), target=target, metanet=None, budget=budget, calibration=[images(32)]
    )
    report = result.report
    assert macs(report) <= 0.5 * report["dense"]["macs"]
    assert report["achieved"]["params"] == sum(p.numel() for p in result.model.parameters())
    assert report["asked"] == metaprune.Target.parse(target).asked
    assert outputs(result.model).shape == (4, 10)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_achieved_is_what_the_plan_promised():
    result = metaprune.prune(cnn(), images(), target={"macs": "40%"}, metanet=None)
    for metric in ("macs", "params", "speedup"):
        assert result.report["achieved"][metric] == pytest.approx(result.plan.achieved[metric])


@pytest.mark.parametrize("budget", budgets.rules_for("masks"))
def test_masks_meet_the_sparsity_exactly(budget):
    result = metaprune.prune(
        mlp(),
        (torch.randn(2, 8),),
        pattern="unstructured",
        target={"sparsity": 0.7},
        metanet=None,
        budget=budget,
        calibration=[(torch.randn(32, 8),)],
    )
    weights = [p for p in result.model.parameters() if p.ndim == 2]
    zeros = sum(int((w == 0).sum()) for w in weights)
    total = sum(w.numel() for w in weights)
    assert abs(zeros - 0.7 * total) <= len(weights)
    assert result.report["achieved"]["sparsity"] == zeros / total


@pytest.mark.parametrize("solver", [name for name in SOLVERS if "low-rank" not in name])
def test_every_solver_runs_on_calibration_and_beats_plain_magnitude(solver):
    model, x = mlp(), torch.randn(256, 8)
    plain, fitted = (
        metaprune.prune(
            model,
            (x[:2],),
            pattern="row",
            target={"sparsity": 0.5},
            metanet=None,
            budget="uniform",
            solver=name,
            calibration=batches,
        )
        for name, batches in (("magnitude", None), (solver, [(x,)]))
    )
    with torch.no_grad():
        error = [(r.model(x) - model(x)).square().mean() for r in (plain, fitted)]
    assert error[1] < error[0]


def test_a_solver_that_needs_calibration_says_so():
    with pytest.raises(ValueError, match="needs calibration"):
        metaprune.prune(
            mlp(), (torch.randn(2, 8),), pattern="row", target={"sparsity": 0.5}, metanet=None,
            solver="wanda",
        )  # fmt: skip


def test_two_of_four_leaves_at_most_two_in_every_group():
    result = metaprune.prune(mlp(), (torch.randn(2, 8),), pattern="2:4", metanet=None)
    weight = result.model[0].weight
    assert ((weight.reshape(16, -1, 4) != 0).sum(-1) <= 2).all()


def test_a_plan_replays_on_another_checkpoint():
    plan = metaprune.plan(cnn(0), images(), target={"macs": "50%"}, metanet=None)
    again = metaprune.Plan.from_json(plan.to_json())
    first = metaprune.apply(cnn(0), images(), plan)
    second = metaprune.apply(cnn(1), images(), again)
    assert {n: p.shape for n, p in first.model.named_parameters()} == {
        n: p.shape for n, p in second.model.named_parameters()
    }
    assert not torch.equal(outputs(first.model), outputs(second.model))


def test_a_plan_for_another_width_is_refused():
    plan = metaprune.plan(cnn(), images(), target={"macs": "50%"}, metanet=None)
    with pytest.raises(PlanError, match="the plan"):
        metaprune.apply(mlp(), (torch.randn(2, 8),), plan)


def test_an_unreachable_target_is_refused_with_the_range():
    with pytest.raises(UnreachableTargetError, match="between"):
        metaprune.plan(cnn(), images(), target={"speedup": 1e6}, metanet=None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "say what to reach"),
        (
            {"target": {"macs": "50%"}, "budget": "lamp"},
            r"cannot divide pattern .channels.; expected one of metanet, .*global",
        ),
        (
            {"target": {"sparsity": 0.5}, "pattern": "unstructured", "budget": "x"},
            "expected one of metanet",
        ),
        (
            {"target": {"sparsity": 0.5}, "pattern": "tiles"},
            "unknown pattern .tiles.: expected one of",
        ),
        ({"target": {"macs": "50%"}, "pattern": "blocks"}, "measures what the network misses"),
        ({"target": {"sparsity": 0.5}, "pattern": "row", "solver": "x"}, 'unknown solver "x"'),
        (
            {"target": {"sparsity": 0.5}, "pattern": "row", "solver": "low-rank"},
            "does not fit pattern",
        ),
        ({"target": {"macs": "50%"}, "budget": "metanet"}, "needs a metanetwork"),
        ({"target": {"sparsity": 0.8}, "pattern": "2:4"}, "keeps 0.5 of the weights"),
        ({"target": {"macs": "50%"}, "calibration": []}, "at least one batch"),
        ({"target": {"macs": "50%"}, "calibration": [torch.ones(0, 4)]}, "at least one example"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        metaprune.plan(cnn(), images(), metanet=None, **options)


def test_a_plan_of_a_pattern_that_is_not_there_is_refused():
    plan = metaprune.Plan("unstructred", "magnitude", "erk")
    with pytest.raises(ValueError, match=r'"unstructred" \(did you mean "unstructured"\?\)'):
        metaprune.apply(cnn(), images(), plan)


def test_an_unknown_metanetwork_is_named():
    with pytest.raises(FileNotFoundError, match="no metanetwork 'missing'"):
        metaprune.plan(cnn(), images(), target={"macs": "50%"}, metanet="missing")


def test_metanetwork_transforms_and_replays_bit_for_bit(tmp_path):
    path = restless_metanet(tmp_path / "meta.safetensors")
    model = cnn()
    target = {"macs": "50%"}
    plan = metaprune.plan(model, images(), target=target, metanet=path)
    assert plan.budget == "metanet"
    assert plan.provenance["metanet"]["share"] == 0.5
    first = metaprune.apply(model, images(), plan)
    second = metaprune.apply(model, images(), metaprune.Plan.from_json(plan.to_json()))
    assert torch.equal(outputs(first.model), outputs(second.model))
    plain = metaprune.prune(model, images(), target=target, metanet=None, budget="global")
    assert plain.plan.kept != plan.kept or not torch.equal(
        outputs(plain.model), outputs(first.model)
    )


def test_a_plan_names_its_metanetwork_by_content(tmp_path):
    path = restless_metanet(tmp_path / "meta.safetensors")
    plan = metaprune.plan(cnn(), images(), target={"macs": "50%"}, metanet=path)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match="another metanetwork"):
        metaprune.apply(cnn(), images(), plan)


def test_evidence_is_measured_where_there_is_a_loss(tmp_path):
    path = restless_metanet(tmp_path / "meta.safetensors")
    model, (x,) = cnn(), images(8)

    def loss(net, batch):
        return torch.nn.functional.cross_entropy(net(batch[0]), batch[1])

    calibration = Calibration([(x, torch.arange(8))], lambda batch: (batch[0],), loss)
    plan = metaprune.plan(
        model, images(), target={"macs": "50%"}, metanet=path, calibration=calibration
    )
    assert plan.provenance["metanet"]["evidence"]
    metaprune.apply(model, images(), plan, calibration=calibration)
    with pytest.raises(ValueError, match="calibration evidence"):
        metaprune.apply(model, images(), plan)


def test_masks_by_metanetwork_meet_the_sparsity(tmp_path):
    path = restless_metanet(tmp_path / "meta.safetensors")
    inputs = (torch.randn(2, 8),)
    result = metaprune.prune(
        mlp(), inputs, pattern="unstructured", target={"sparsity": 0.5}, metanet=path
    )
    assert result.report["achieved"]["sparsity"] == pytest.approx(0.5, abs=0.02)
    assert result.plan.budget == "metanet"


def test_every_training_of_a_list_has_checkpoints_of_its_own(tmp_path):
    data = digits()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    settings = {"epochs": 1, "batch_size": 50}
    options = {
        "target": {"macs": "60%"},
        "metanet": None,
        "data": data,
        "recovery": [{"finetune": settings}, {"distil": settings}],
    }
    plain = metaprune.prune(model, data.example_inputs(), **options)
    for _ in range(2):
        kept = metaprune.prune(model, data.example_inputs(), **options, checkpoints=tmp_path)
        for name, value in plain.model.state_dict().items():
            assert torch.equal(kept.model.state_dict()[name], value)
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {"01-finetune", "02-distil", "step-01"}


@pytest.mark.parametrize(
    ("pattern", "entry"),
    [
        ("channels", {"density": {"2.weight": 0.5}}),
        ("channels", {"rank": {"2.weight": 1}}),
        ("unstructured", {"dropped": ("2",)}),
        ("2:4", {"rank": {"2.weight": 1}}),
        ("low-rank", {"density": {"2.weight": 0.5}}),
    ],
)
def test_what_a_pattern_does_not_read_in_its_plan_is_refused(pattern, entry):
    plan = Plan(pattern, "magnitude", "uniform", **entry)
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    with pytest.raises(PlanError, match=f'"{pattern}" does not read "{next(iter(entry))}"'):
        metaprune.apply(model, (torch.randn(2, 8),), plan)


def test_what_is_no_plan_data_set_or_mapping_is_refused():
    plan = metaprune.plan(cnn(), images(), target={"macs": "60%"}, metanet=None)
    with pytest.raises(PlanError, match=r"got str.*metaprune\.Plan\.load"):
        metaprune.apply(cnn(), images(), "plan.json")
    with pytest.raises(PlanError, match=r"a plan is followed by a plan \(got NoneType\)"):
        plan.then(None)
    with pytest.raises(ValueError, match="finetune takes settings such as"):
        metaprune.apply(cnn(), images(), plan, finetune=True)
    with pytest.raises(ValueError, match="recovery takes a list"):
        metaprune.apply(cnn(), images(), plan, recovery="refit")
    for calibration in (3, "batches"):
        with pytest.raises(ValueError, match=r"^calibration takes batches.*\(got a "):
            metaprune.prune(cnn(), images(), target={"macs": "60%"}, calibration=calibration)
    for options in ({"examples": -3}, {"batch_size": 0}):
        with pytest.raises(
            ValueError, match=rf"^calibration\.{next(iter(options))} must be at least"
        ):
            Calibration.from_data(digits(), **options)
    with pytest.raises(ValueError, match="data takes a data set"):
        metaprune.prune(cnn(), images(), target={"macs": "60%"}, data={"train": 1})


def test_finetuning_keeps_masks_and_needs_data():
    data = digits()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    settings = {"epochs": 1, "batch_size": 50}
    with pytest.raises(ValueError, match='"finetune" needs data'):
        metaprune.prune(
            model,
            data.example_inputs(),
            target={"sparsity": 0.8},
            pattern="unstructured",
            metanet=None,
            finetune=settings,
        )
    result = metaprune.prune(
        model,
        data.example_inputs(),
        target={"sparsity": 0.8},
        pattern="unstructured",
        metanet=None,
        data=data,
        finetune=settings,
    )
    for name, mask in result.masks.items():
        parameter = result.model.get_parameter(name)
        assert (parameter[~mask] == 0).all()
        assert (parameter[mask] != 0).any()
    assert "finetune" in result.report["seconds"]


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "low-rank"])
def test_every_way_to_solve_gives_what_was_asked(pattern):
    """In order, layer by layer, or none: the same budget, other weights."""
    target = None if ":" in pattern else {"sparsity": 0.5}
    batches = [images(16, seed) for seed in range(2)]
    plan = metaprune.plan(
        cnn(), images(), pattern=pattern, target=target, metanet=None, budget="uniform",
        calibration=batches,
    )  # fmt: skip
    found = {
        how: metaprune.apply(
            cnn(), images(), plan, calibration=batches, recovery=[*how.split(), "recalibrate"]
        )
        for how in ("order", "layer", "")
    }
    achieved = [result.report["achieved"]["sparsity"] for result in found.values()]
    assert achieved == pytest.approx([achieved[0]] * 3)
    assert any("in order" in note for note in found["order"].report["notes"])
    assert not any("recalibrated" in note for note in found["order"].report["notes"])
    assert any("recalibrated" in note for note in found["layer"].report["notes"])
    states = [torch.cat([p.flatten() for p in r.model.parameters()]) for r in found.values()]
    assert not torch.allclose(states[0], states[1])
