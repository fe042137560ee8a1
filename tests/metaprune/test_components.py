"""transform= with channels: the stream gets narrower, the class stays, and plans replay."""

from __future__ import annotations

import pytest
import torch
import transformers

import metaprune
from pruners import measure
from tests.metaprune.test_transform import llama, logits
from tests.pruners.transformations.networks import ids

STREAM = "model.embed_tokens.out.2"
ROTATE = {"rotate": {"descent": 4}}


def options(**more):
    return {
        "pattern": "channels",
        "target": {"macs": "60%"},
        "budget": {"rule": "expected-loss", "order": "loss", "shots": 1},
        "transform": ROTATE,
        "calibration": [ids(12, seed) for seed in range(4)],
        **more,
    }


def widths(plan):
    return {axis: len(kept.keep) for axis, kept in plan.kept.items()}


@pytest.fixture(scope="module", params=["channels", "equal-widths"])
def result(request):
    return metaprune.prune(llama(), ids(), **options(pattern=request.param))


def test_the_stream_gets_narrower_in_the_class_of_the_network(result):
    assert widths(result.plan)[STREAM] < 16
    assert type(result.model) is transformers.LlamaForCausalLM
    assert result.model.config.hidden_size == widths(result.plan)[STREAM]
    assert result.model.model.norm.weight.shape == (widths(result.plan)[STREAM],)


def test_the_target_is_met(result):
    assert result.report["achieved"]["macs"] <= 0.6 * result.report["dense"]["macs"]


def test_a_plan_replays_bit_for_bit(result, tmp_path):
    result.plan.save(tmp_path / "plan.json")
    plan = metaprune.Plan.load(tmp_path / "plan.json")
    again = metaprune.apply(llama(), ids(), plan, calibration=options()["calibration"])
    for name, value in result.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def test_saved_networks_open_in_their_class(result, tmp_path):
    result.save(tmp_path / "small")
    model = metaprune.load(tmp_path / "small")
    assert type(model) is transformers.LlamaForCausalLM
    assert torch.equal(logits(model), logits(result.model))


def test_equal_widths_open_without_this_package(tmp_path):
    result = metaprune.prune(llama(), ids(), **options(pattern="equal-widths"))
    result.save(tmp_path / "small")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    assert model.config.hidden_size == widths(result.plan)[STREAM]
    assert torch.equal(logits(model), logits(result.model))


def test_the_report_says_what_was_turned(result):
    assert result.report["transform"]["notes"][0].startswith(
        f"Turned: {STREAM} (16 features); keeping 75% "
    )
    figures = result.report["transform"]["features"]
    assert figures["after"] < figures["before"]
    assert result.report["dense"]["params"] == sum(p.numel() for p in llama().parameters())


@pytest.mark.parametrize(("descent", "off"), [(0, 1e-4), (4, 1e-2)])
@pytest.mark.parametrize("recovery", [[], None])
def test_a_stream_that_lies_in_few_directions_is_cut_for_nothing(descent, off, recovery):
    """What makes and reads a stream uses 12 of its 16 dimensions, none of them a feature."""
    model = llama()
    draw = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(16, 16, generator=draw, dtype=torch.float64))[0][:, :12]
    inside = (basis @ basis.T).float()
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight @ inside)
        model.model.norm.weight.fill_(1)
        for layer in model.model.layers:
            layer.input_layernorm.weight.fill_(1)
            layer.post_attention_layernorm.weight.fill_(1)
            for module in (layer.self_attn.o_proj, layer.mlp.down_proj):
                module.weight.copy_(inside @ module.weight)
            attention, feed = layer.self_attn, layer.mlp
            for module in (attention.q_proj, attention.k_proj, attention.v_proj, feed.gate_proj,
                           feed.up_proj):  # fmt: skip
                module.weight.copy_(module.weight @ inside)
    macs = measure(metaprune.trace(model, ids()), {STREAM: 12})["macs"]
    transform = {"rotate": {"descent": descent}}
    asked = options(target={"macs": macs}, transform=transform, recovery=recovery)
    found = metaprune.prune(model, ids(), **asked)
    assert widths(found.plan) == {STREAM: 12}
    expected = logits(model)
    assert (logits(found.model) - expected).abs().max() < off * expected.abs().max()


def test_auto_takes_the_way_that_loses_less():
    found = metaprune.plan(llama(), ids(), **options(transform={"auto": {"descent": 4}}))
    tried = found.provenance["transform"]["tried"]
    assert list(tried) == ["none", "rotate"]
    assert (found.moves is not None) == (tried["rotate"] < tried["none"])


def test_blocks_refuse_a_transformation():
    with pytest.raises(ValueError, match='no transformation makes pattern "blocks" easier'):
        metaprune.plan(llama(), ids(), **options(pattern="blocks", budget=None))


def test_a_pruning_that_is_transformed_again_says_both(result):
    """What was done adds up: the masks turn the narrower stream once more."""
    more = {"target": {"sparsity": 0.4}, "budget": None, "transform": {"rotate": {"descent": 1}}}
    masked = metaprune.prune(result, ids(), **options(pattern="unstructured", **more))
    alone, both = result.report["transform"], masked.report["transform"]
    assert both["notes"][: len(alone["notes"])] == alone["notes"]
    assert len(both["notes"]) > len(alone["notes"])
    assert any(axis not in alone["turned"] for axis in both["turned"])
    assert both["untied"] == alone["untied"]
    assert both["parameters"] == alone["parameters"]
    assert "single_weights" in both
    assert "features" in both
