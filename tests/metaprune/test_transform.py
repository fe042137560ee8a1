"""transform= from settings to a saved checkpoint: the same function before, masks exact after."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

import metaprune
from metaprune import transforming
from metaprune.patterns import Masks
from metaprune.schedules import run
from metaprune.transforming import parse
from tests.pruners.transformations.networks import ids

ROTATE = {"rotate": {"descent": 4}}


def llama(seed: int = 0):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=24, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=4, tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.mul_(10)
    return model


def plain(model):
    """The model with norms that tell no units apart."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.fill_(1)
    return model


def options(**more):
    return {
        "pattern": "unstructured",
        "target": {"sparsity": 0.5},
        "budget": "uniform",
        "transform": ROTATE,
        "calibration": [ids(4, seed) for seed in range(3)],
        **more,
    }


def logits(model):
    with torch.no_grad():
        return model(**ids(5, 9)).logits


@pytest.fixture(scope="module")
def result():
    return metaprune.prune(llama(), ids(), **options())


def test_nothing_pruned_is_the_same_function():
    found = metaprune.prune(llama(), ids(), **options(target={"sparsity": 0.0}))
    expected = logits(llama())
    assert (logits(found.model) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_masks_are_exact_and_the_report_says_what_was_done(result):
    assert type(result.model) is transformers.LlamaForCausalLM
    assert result.masks
    for name, mask in result.masks.items():
        assert not result.model.get_parameter(name)[~mask].any()
    report = result.report
    assert report["achieved"]["sparsity"] == pytest.approx(0.5, abs=1e-3)
    said = report["transform"]
    assert any(note.startswith("Turned: ") for note in said["notes"])
    assert any(note.startswith("Untied, ") for note in said["notes"])
    assert not set(said["notes"]) & set(report["notes"])
    assert said["turned"].keys() == result.plan.moves.turns.keys()
    assert said["untied"] == {"lm_head.weight": 24 * 16}
    assert said["parameters"] == 24 * 16
    assert said["single_weights"]["after"] > 0
    assert "transform" in report["seconds"]
    assert report["dense"]["params"] == sum(p.numel() for p in llama().parameters())
    assert report["settings"]["transform"] == ROTATE
    assert "lm_head.weight" in [layer["name"] for layer in report["layers"]]


def test_the_original_is_left_as_it_was():
    model = llama()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    metaprune.prune(model, ids(), **options())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_plan_replays_bit_for_bit(result, tmp_path):
    result.plan.save(tmp_path / "plan.json")
    plan = metaprune.Plan.load(tmp_path / "plan.json")
    again = metaprune.apply(llama(), ids(), plan, calibration=options()["calibration"])
    for name, value in result.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def test_a_plan_replays_on_another_checkpoint(result):
    plan = result.plan
    found = metaprune.apply(llama(3), ids(), plan, calibration=options()["calibration"])
    for name, mask in found.masks.items():
        assert not found.model.get_parameter(name)[~mask].any()
    untouched = plan.moved(metaprune.trace(llama(3), ids())).to_model()
    expected = logits(llama(3))
    assert (logits(untouched) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_saved_networks_open_in_their_class_and_without_this_package(result, tmp_path):
    result.save(tmp_path / "small")
    expected = logits(result.model)
    for model in (
        metaprune.load(tmp_path / "small"),
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "small"),
    ):
        assert type(model) is transformers.LlamaForCausalLM
        assert not model.config.tie_word_embeddings
        assert torch.equal(logits(model), expected)
        assert all((norm == 1).all() for name, norm in model.named_parameters() if "norm" in name)
    opened = metaprune.load(tmp_path / "small", dense=llama(1))
    assert torch.equal(logits(opened), expected)


@pytest.mark.parametrize("made", [llama, lambda: plain(llama())])
@pytest.mark.parametrize("dense", [llama, lambda: plain(llama())])
def test_a_saved_network_opens_in_any_dense_one(made, dense, tmp_path):
    found = metaprune.prune(made(), ids(), **options(calibration=None, solver="magnitude"))
    found.save(tmp_path / "small")
    opened = metaprune.load(tmp_path / "small", dense=dense())
    assert torch.equal(logits(opened), logits(found.model))


def test_a_saved_folder_without_its_matrices_is_refused(result, tmp_path):
    result.save(tmp_path / "small")
    (tmp_path / "small" / "plan.moves.safetensors").unlink()
    with pytest.raises(metaprune.PlanError, match="there is no such file; keep the two together"):
        metaprune.load(tmp_path / "small")


def test_a_pruned_network_is_pruned_further(result):
    more = options(transform=None, target={"sparsity": 0.7})
    found = metaprune.prune(result, ids(), **more)
    assert found.report["achieved"]["sparsity"] == pytest.approx(0.7, abs=1e-3)
    for name, mask in result.masks.items():
        assert not found.model.get_parameter(name)[~mask].any()
    with pytest.raises(ValueError, match="masks of earlier prunings do not turn"):
        metaprune.prune(result, ids(), **options(target={"sparsity": 0.7}))


def test_a_schedule_transforms_once(tmp_path):
    more = options(schedule={"iterative": {"steps": 2}}, checkpoints=tmp_path)
    found = metaprune.prune(llama(), ids(), **more)
    first, second = found.plan.steps
    assert first.moves is not None
    assert second.moves is None
    again = metaprune.prune(llama(), ids(), **more)
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def interrupt(*_, **__):
    raise KeyboardInterrupt


def again(*_, **__):
    pytest.fail("it was done already")


@pytest.mark.parametrize("schedule", ["one-shot", {"iterative": {"steps": 2}}])
@pytest.mark.parametrize("stage", ["the budget", "the masks"])
@pytest.mark.parametrize("asked", [ROTATE, "auto", "permute"])
def test_what_was_found_is_kept_when_it_is_interrupted(
    monkeypatch, tmp_path, asked, stage, schedule
):
    more = options(transform=asked, schedule=schedule, target={"sparsity": 0.5})
    whole = metaprune.prune(llama(), ids(), **more)
    with monkeypatch.context() as patch:
        place = (Masks, "plan") if stage == "the budget" else (run, "apply_step")
        patch.setattr(*place, interrupt)
        with pytest.raises(KeyboardInterrupt):
            metaprune.prune(llama(), ids(), **more, checkpoints=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(transforming, "in_order", again)
        if stage == "the masks" and schedule == "one-shot":
            patch.setattr(run, "plan_job", again)
        found = metaprune.prune(llama(), ids(), **more, checkpoints=tmp_path)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, found.model.state_dict()[name])
    assert found.plan == whole.plan
    assert found.report["transform"] == whole.report["transform"]
    with pytest.raises(ValueError, match="holds the steps of another pruning"):
        metaprune.prune(llama(), ids(), **{**more, "transform": None}, checkpoints=tmp_path)


@pytest.mark.parametrize("asked", ["rotate", {"rotate": None, "permute": {}}, "permute", "auto"])
def test_groups_of_four(asked):
    more = options(pattern="2:4", target=None, transform=asked)
    found = metaprune.prune(llama(), ids(), **more)
    for name, mask in found.masks.items():
        value = found.model.get_parameter(name)
        assert ((value.view(-1, 4) != 0).sum(1) <= 2).all()
        assert not value[~mask].any()


def test_without_calibration_weights_alone_decide():
    more = options(calibration=None, solver="magnitude")
    found = metaprune.prune(llama(), ids(), **more)
    assert found.plan.moves is not None


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match='unknown transformation "rotat"'):
        metaprune.plan(llama(), ids(), **options(transform="rotat"))
    with pytest.raises(ValueError, match=r"transform\.rotate\.steps: unknown setting"):
        metaprune.plan(llama(), ids(), **options(transform={"rotate": {"steps": 3}}))
    with pytest.raises(ValueError, match=r"transform\.rotate\.descent takes"):
        metaprune.plan(llama(), ids(), **options(transform={"rotate": {"descent": "far"}}))
    with pytest.raises(ValueError, match='no transformation makes pattern "low-rank" easier'):
        metaprune.plan(
            llama(), ids(), pattern="low-rank", target={"params": "50%"}, transform="rotate"
        )
    with pytest.raises(ValueError, match="so there is no pruning in place"):
        metaprune.prune(llama(), ids(), **options(), inplace=True)
    late = options(pattern="2:4", target=None, transform={"permute": {}, **ROTATE})
    with pytest.raises(ValueError, match='"rotate" cannot follow those before it'):
        metaprune.plan(llama(), ids(), **late)
    inputs = {name: value.to("meta") for name, value in ids().items()}
    bare = options(calibration=None, solver="magnitude")
    with pytest.raises(ValueError, match="a transformation looks at the values of weights"):
        metaprune.plan(llama().to("meta"), inputs, **bare)
    broken = llama()
    with torch.no_grad():
        broken.model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r'not finite: .*up_proj\.weight" holds NaN'):
        metaprune.plan(broken, ids(), **bare)
    with pytest.raises(ValueError, match="transform names no transformation"):
        parse({})
    with pytest.raises(ValueError, match="names with options such as"):
        parse({"rotate": 3})


def test_plans_are_readable(result):
    content = json.loads(result.plan.to_json())
    assert content["moves"]["unties"] == ["lm_head.weight"]
    assert content["moves"]["digest"]


@pytest.mark.parametrize("schedule", ["one-shot", {"iterative": {"steps": 2}}])
def test_shares_are_of_the_network_that_was_given(schedule):
    asked = {"params": "60%"}
    found = metaprune.prune(llama(), ids(), **options(target=asked, schedule=schedule))
    given = sum(p.numel() for p in llama().parameters())
    assert found.plan.steps[0].moves.unties
    assert found.report["achieved"]["params"] <= 0.6 * given
    assert found.report["achieved"]["params"] > 0.6 * given - 16
    assert found.report["asked"] == asked


def test_a_schedule_and_a_next_pruning_say_that_the_network_was_transformed(result):
    scheduled = metaprune.prune(llama(), ids(), **options(schedule={"iterative": {"steps": 2}}))
    again = metaprune.prune(
        result.model, ids(), **options(target={"sparsity": 0.7}, transform=None)
    )
    for one in (scheduled, again):
        assert set(one.report["transform"]) == set(result.report["transform"])
        assert any(note.startswith("Untied") for note in one.report["transform"]["notes"])
