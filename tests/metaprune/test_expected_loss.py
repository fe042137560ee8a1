"""Expected loss from the public face: the default where there is calibration, and what it says."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import metaprune
from pruners.curves import mask_curves
from tests.metaprune.networks import cnn, images, mlp

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
BATCHES = [(part,) for part in X.split(16)]
ASKED = {
    "channels": {"target": {"macs": "50%"}},
    "equal-widths": {"target": {"macs": "50%"}},
    "unstructured": {"target": {"sparsity": 0.5}},
    "row": {"target": {"sparsity": 0.5}},
    "low-rank": {"target": {"params": "80%"}},
}


def prune(pattern, model=None, **options):
    given = {"calibration": BATCHES, **ASKED.get(pattern, {}), **options}
    return metaprune.prune(mlp() if model is None else model, (X[:2],), pattern=pattern, **given)


@pytest.mark.parametrize("pattern", ASKED)
def test_it_is_the_default_where_there_is_calibration(pattern):
    result = prune(pattern)
    assert result.plan.budget == "expected-loss"
    assert result.plan == metaprune.Plan.from_json(result.plan.to_json())
    foretold = result.plan.provenance.get("expected_loss")
    if foretold is None:  # one threshold over norms was better on examples left out
        assert pattern in ("channels", "equal-widths")
        return
    losses = [layer["loss"] for layer in foretold["layers"].values()]
    assert foretold["total"] == pytest.approx(sum(losses), rel=1e-4)
    assert foretold["total"] > 0
    for layer in foretold["layers"].values():
        curve = layer["curve"]
        assert curve["losses"][-1] == 0
        assert curve["losses"] == sorted(curve["losses"], reverse=True)
        assert 0 < layer["kept"] <= curve["kept"][-1]
    said = result.report["expected_loss"]
    assert said["total"] == foretold["total"]
    assert "unreached" not in said
    assert said["lost"] == pytest.approx(divergence(mlp(), result.model), rel=1e-3)


class Dense(nn.Module):
    """As many predictions of an example as it has places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 12)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 12)) for _ in range(3)
        )
        self.last, self.head = nn.RMSNorm(12), nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.last(x))


@pytest.mark.parametrize(
    ("pattern", "more"),
    [
        ("channels", {}),
        ("equal-widths", {}),
        ("blocks", {"target": {"macs": "70%"}}),
        ("unstructured", {"transform": {"auto": {"descent": 1}}, "recovery": []}),
    ],
)
@pytest.mark.parametrize("examples", [1, 8])
def test_nothing_is_judged_by_the_example_that_it_was_measured_on(pattern, more, examples):
    torch.manual_seed(0)
    x = torch.randn(examples, 100, 8)
    result = prune(pattern, Dense(), calibration=[(x,)], **more)
    notes = [*result.report["notes"], *result.report.get("transform", {}).get("notes", ())]
    tried = any("ried on examples left out" in note for note in notes)
    if examples == 1:
        assert not tried
    elif pattern != "blocks":  # where both ways may choose the same
        assert tried


def divergence(dense, pruned):
    with torch.no_grad():
        one, two = (model.eval()(X).log_softmax(-1) for model in (dense, pruned))
    return (one.exp() * (one - two)).sum(-1).mean().item()


@pytest.mark.parametrize(
    ("pattern", "budget"),
    [("channels", "global"), ("equal-widths", "global"), ("unstructured", "erk"), ("row", "erk"),
     ("low-rank", "global")],
)  # fmt: skip
def test_without_calibration_a_rule_that_reads_weights_alone_divides(pattern, budget):
    result = prune(pattern, calibration=None)
    assert result.plan.budget == budget
    assert "expected_loss" not in result.plan.provenance
    assert "expected_loss" not in result.report
    words = "needs expected losses, measured on calibration batches: provide some, or"
    with pytest.raises(ValueError, match=words):
        prune(pattern, calibration=None, budget="expected-loss")


def test_n_of_m_leaves_no_choice_unless_it_is_asked_for():
    assert prune("2:4").plan.budget == "uniform"
    mixed = prune("2:4", budget="expected-loss").plan
    assert mixed.budget == "expected-loss"
    assert all((4 * share).is_integer() and share > 0 for share in mixed.density.values())
    sizes = {n: p.numel() for n, p in mlp().named_parameters() if n in mixed.density}
    assert sum(mixed.density[n] * s for n, s in sizes.items()) <= 0.5 * sum(sizes.values())


@pytest.mark.parametrize("solver", ["magnitude", "wanda", "gradient-aware", "admm"])
def test_masks_are_divided_for_whatever_solver_prunes(solver):
    plan = prune("unstructured", solver=solver).plan
    assert (plan.budget, plan.solver) == ("expected-loss", solver)
    assert plan.achieved["sparsity"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("pattern", "budget"),
    [
        ("channels", {"order": "given", "shots": 2}),
        ("channels", {"order": "mixed"}),
        ("channels", {"shots": 1}),
        ("unstructured", {"rounds": 1}),
        ("equal-widths", {"order": "loss"}),
    ],
)
def test_options_are_recorded_and_give_the_same_again(pattern, budget):
    asked = {"rule": "expected-loss", **budget}
    one, two = (prune(pattern, budget=asked) for _ in range(2))
    assert one.plan.to_json() == two.plan.to_json()
    assert one.plan.provenance["settings"]["budget"] == asked
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, two.model.state_dict()[name])


class Deep(nn.Module):
    """Repeated blocks, whose widths one number says."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8)) for _ in range(3)
        )
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


@pytest.mark.parametrize("round_to", [1, 4])
@pytest.mark.parametrize("min_units", [0.05, 0.5, 3])
def test_equal_widths_stay_equal(min_units, round_to):
    torch.manual_seed(0)
    model = Deep()
    result = prune(
        "equal-widths", model, target={"macs": "75%"}, min_units=min_units, round_to=round_to
    )
    found = {block[0].out_features for block in result.model.blocks}
    assert len(found) == 1
    [width] = found
    assert width % round_to == 0 or width == 12
    assert width >= (min_units * 12 if isinstance(min_units, float) else min_units)
    assert result.report["achieved"]["macs"] <= 0.75 * result.report["dense"]["macs"]
    with pytest.raises(ValueError, match=r'in one shot .*choose the pattern "channels"'):
        prune("equal-widths", model, budget={"rule": "expected-loss", "shots": 2})


@pytest.mark.parametrize(
    ("pattern", "options", "words"),
    [
        ("channels", {"budget": {"rule": "expected-loss", "order": "x"}},
         'unknown order "x": expected one of loss, given, mixed'),
        ("channels", {"budget": {"rule": "expected-loss", "shots": 0}},
         r"shots takes a whole number from 1 to 16 \(got 0\)"),
        ("channels", {"budget": {"rule": "expected-loss", "rounds": 2}},
         'budget "expected-loss" does not read "rounds"'),
        ("row", {"budget": {"rule": "expected-loss", "rounds": 0}},
         r"rounds takes a whole number from 1 to 16 \(got 0\)"),
        ("row", {"budget": {"rule": "expected-loss", "shots": 2}},
         'budget "expected-loss" does not read "shots"'),
        ("row", {"recovery": [{"order": {"sides": 3}}]}, r"recovery.order.sides is 1, .*\(got 3\)"),
        ("row", {"recovery": [{"layer": {"sides": 0}}]}, r"recovery.layer.sides is 1, .*\(got 0\)"),
        ("row", {"recovery": [{"order": {"rounds": 0}}]},
         r"recovery.order.rounds must be at least 1 \(got 0\)"),
        ("row", {"recovery": [{"order": {"rounds": "two"}}]}, "rounds"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(pattern, options, words):
    with pytest.raises(ValueError, match=words):
        prune(pattern, **options)


class Blocked(nn.Module):
    """What its first layer does reaches the scores without a gradient."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(16, 12), nn.Linear(12, 5)
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.how != "no_grad"):
            x = F.relu(self.a(x))
            x = x.detach() if self.how == "detach" else x
            x = self.c(F.relu(self.b(x)))
        return x.argmax(-1) if self.how == "argmax" else x


@pytest.mark.parametrize("how", ["detach", "no_grad", "argmax"])
@pytest.mark.parametrize("pattern", ["channels", "unstructured", "low-rank"])
def test_blocked_gradients_are_said_and_do_without(pattern, how):
    result = prune(pattern, Blocked(how), budget="expected-loss")
    missing = ["a.weight"] if how == "detach" else ["a.weight", "b.weight", "c.weight"]
    foretold = result.report.get("expected_loss")
    if foretold is not None:
        assert list(foretold["unreached"]) == missing
        assert (foretold["lost"] is None) is (how == "argmax")
        said = (
            f"Counted as average in the budget: 1 weight ({missing[0]}), because no gradient "
            "reaches the outputs: the output does not depend on it smoothly (detach, argmax or "
            "whole numbers)."
        )
        assert result.report["notes"].count(said) == 1
    solved = [note for note in result.report["notes"] if note.startswith("Solved for the")]
    if pattern == "unstructured" or (pattern == "low-rank" and how != "detach"):
        assert len(solved) == 1


def test_a_result_is_pruned_again_and_saved(tmp_path):
    """Steps of a schedule measure what the last one left."""
    result = metaprune.prune(
        cnn(), images(), target={"macs": "40%"}, calibration=[images(8)],
        schedule={"iterative": {"steps": 2}},
    )  # fmt: skip
    assert result.report["achieved"]["macs"] <= 0.4 * result.report["dense"]["macs"]
    place = result.save(tmp_path / "small")
    again = metaprune.load(place)
    torch.testing.assert_close(again(*images()), result.model(*images()))
    assert {step.budget for step in result.plan.steps} == {"expected-loss"}


@pytest.mark.parametrize("pattern", ["channels", "unstructured"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_the_caller_switched_off_does_not_matter(pattern, mode):
    expected = prune(pattern, budget={"rule": "expected-loss"})
    model = mlp()
    with mode():
        found = prune(pattern, model, budget={"rule": "expected-loss"})
    assert found.plan.density == expected.plan.density
    assert found.plan.kept == expected.plan.kept
    assert found.report["expected_loss"]["total"] == expected.report["expected_loss"]["total"]


def test_models_that_were_made_for_inference_are_refused_with_words():
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(8, 4))
    with pytest.raises(metaprune.TraceError, match=r"0.weight was made in torch.inference_mode"):
        prune("unstructured", model)


def test_masks_beside_low_rank_are_divided_by_the_curves_of_their_own_solver(monkeypatch):
    from pruners.budgets.rules.expected_loss import masks as expected_loss

    asked = []

    def noted(sides, solver, *given):
        asked.append(solver)
        return mask_curves(sides, solver, *given)

    monkeypatch.setattr(expected_loss, "mask_curves", noted)
    target = {"sparsity": 0.4}
    result = prune("sparse+low-rank", target=target, budget="expected-loss")
    assert set(asked) == {"sparse+low-rank"}
    assert result.plan.achieved["sparsity"] == pytest.approx(0.4, abs=0.02)
    assert result.plan.provenance["expected_loss"]["total"] > 0
    assert prune("sparse+low-rank", target=target).plan.density == result.plan.density
    assert prune("2:4+low-rank", target=None).plan.budget == "uniform"


class Fragile(nn.Module):
    """Its scores are divided by a sum of units that must not all go."""

    def __init__(self, where: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.where = where
        self.a, self.b, self.c = nn.Linear(8, 32), nn.Linear(32, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.a(x))
        x = F.relu(self.b(x / x.sum(-1, keepdim=True) if self.where == "middle" else x))
        y, total = self.c(x), x.sum(-1, keepdim=True)
        return y * total / total if self.where == "end" else y


@pytest.mark.parametrize("budget", [{}, {"evaluations": 8}])
@pytest.mark.parametrize("transform", [None, "auto"])
@pytest.mark.parametrize("where", ["middle", "end"])
def test_what_computes_nan_is_not_taken_and_stops_nothing(where, budget, transform):
    x = torch.randn(1024, 8, generator=torch.Generator().manual_seed(0))
    batches = [(part,) for part in x.split(128)]
    given = {"calibration": batches, "budget": {"rule": "expected-loss", **budget}}
    model = Fragile(where)
    assert model(x).isfinite().all()
    result = prune("channels", model, target={"macs": "25%"}, transform=transform, **given)
    assert result.plan.provenance["tried"]["one threshold over L2"] is None
    assert any("one threshold over L2: NaN" in note for note in result.report["notes"])
    assert result.model(x).isfinite().all()
    assert result.plan == metaprune.Plan.from_json(result.plan.to_json())


def test_where_everything_computes_nan_that_is_said():
    x = torch.randn(1024, 8, generator=torch.Generator().manual_seed(0))
    batches = [(part,) for part in x.split(128)]
    with pytest.raises(ValueError, match="computes NaN or infinity in every way that was tried"):
        prune("channels", Fragile("middle"), target={"macs": "8%"}, calibration=batches)


@pytest.mark.parametrize("pattern", ["channels", "unstructured"])
def test_notes_say_by_what_one_of_several_was_taken(pattern):
    x = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
    for evaluations, words in ((1, "The least"), (9, "The least by all that was judged")):
        budget = {"rule": "expected-loss", "evaluations": evaluations}
        result = prune(pattern, budget=budget, calibration=[(part,) for part in x.split(64)])
        said = [note for note in result.report["notes"] if note.startswith("Tried on")]
        assert len(said) == 1
        if evaluations > 1 or pattern == "channels":
            assert said[0].endswith(f"{words} was taken.")
