"""What `apply` does about units that went, and about weights that became 0."""

from __future__ import annotations

import pytest
import torch

import metaprune
from tests.pruners.networks import ResidualCNN, randomized


@pytest.fixture(scope="module")
def problem():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = randomized(ResidualCNN(), 0)
        batches = [torch.randn(32, 3, 6, 6) for _ in range(3)]
    example = (batches[0][:2],)
    plan = metaprune.plan(model, example, target={"macs": "60%"}, metanet=None, budget="uniform")
    return model, example, plan, batches


def error(problem, recovery):
    model, example, plan, batches = problem
    result = metaprune.apply(model, example, plan, calibration=batches, recovery=recovery)
    x = torch.cat(batches)
    with torch.no_grad():
        return (model(x) - result.model(x)).square().mean().item(), result


def test_a_refit_comes_closer_to_the_dense_network(problem):
    folded, _ = error(problem, ["bias"])
    fitted, result = error(problem, ["bias", "refit", "recalibrate"])
    assert fitted < 0.8 * folded
    assert any("refitted" in note for note in result.report["notes"])
    assert not any("recalibrated" in note for note in result.report["notes"])
    for name, value in result.model.state_dict().items():
        assert torch.equal(value, result.network.tensors[name].value), name


def test_the_default_is_that_of_the_pattern_and_an_empty_list_is_nothing(problem):
    plain, result = error(problem, [])
    assert not any("removed units" in note or "refit" in note for note in result.report["notes"])
    usual, result = error(problem, None)
    assert usual < plain
    for same in (["default"], ["bias", "refit"]):
        again, other = error(problem, same)
        assert again == usual
        assert other.report["notes"] == result.report["notes"]


@pytest.mark.parametrize(
    ("recovery", "words"),
    [
        (["refti"], r'unknown recovery method "refti" \(did you mean "refit"\?\)'),
        (["order"], 'recovery method "order" serves patterns that change weights'),
        ([{"refit": {"damping": "x"}}], r"^recovery\.refit\.damping takes a number \(got 'x'\)"),
        ([{"refit": {"damping": -1}}], r"^recovery\.refit\.damping must be at least 0"),
        ([{"default": {}}], '"default" has no options'),
        ("refit", r"^recovery takes a list"),
        (
            [{"refit": {"dampin": 1}}],
            r'recovery\.refit\.dampin: unknown setting "dampin" \(did you mean "damping"',
        ),
        (["finetune"], 'recovery method "finetune" needs data'),
        ([["refit"]], r"^recovery\[0\] takes text or a mapping"),
        ([{"refit": {}, "bias": {}}], "a recovery method is a name"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(problem, recovery, words):
    with pytest.raises(ValueError, match=words):
        error(problem, recovery)


def test_methods_that_both_find_the_weights_are_refused():
    with pytest.raises(ValueError, match="layer and order both find the weights"):
        metaprune.prune(
            torch.nn.Linear(8, 8), (torch.randn(2, 8),), pattern="row", target={"sparsity": 0.5},
            metanet=None, calibration=[(torch.randn(16, 8),)], recovery=["layer", "order"],
        )  # fmt: skip


def test_what_needs_batches_says_so_where_there_are_none(problem):
    model, example, plan, _ = problem
    with pytest.raises(ValueError, match=r'"refit" needs calibration: .* \(asked: refit\)'):
        metaprune.apply(model, example, plan, recovery=["refit"])


def test_a_method_that_brings_masked_weights_back_is_refused(monkeypatch):
    from pruners.recovery.methods.recalibrate import Recalibrate

    def careless(self, pruning):
        with torch.no_grad():
            for parameter in pruning.pruned.parameters():
                parameter.add_(1)

    monkeypatch.setattr(Recalibrate, "recover", careless)
    with pytest.raises(RuntimeError, match='"recalibrate" brought back weights of "weight"'):
        metaprune.prune(
            torch.nn.Linear(8, 8), (torch.randn(2, 8),), pattern="row", target={"sparsity": 0.5},
            metanet=None, calibration=[(torch.randn(16, 8),)],
        )  # fmt: skip


def test_the_teacher_of_later_steps_is_the_first_model(monkeypatch):
    from tests.metaprune.networks import digits
    from training.recovery.methods import finetune as method

    data, teachers = digits(), []
    monkeypatch.setattr(method, "run_training", lambda p, *_: teachers.append(p.teacher))
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.Linear(32, 10)
    )
    metaprune.prune(
        model, data.example_inputs(), target={"macs": "50%"}, metanet=None, data=data,
        finetune={"epochs": 1}, schedule={"iterative": {"steps": 3}},
    )  # fmt: skip
    assert len(teachers) == 3
    assert all(teacher is teachers[0] for teacher in teachers)
    dense = [(p.data_ptr(), p.shape) for p in model.parameters()]  # of a copy that shares them
    assert [(p.data_ptr(), p.shape) for p in teachers[0].parameters()] == dense
