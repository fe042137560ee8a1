"""A model without weights, run from its files: block by block as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from metaprune.streaming.backward import pull, pull_back
from metaprune.streaming.chain import Chain, NoChainError
from metaprune.streaming.checkpoint import INDEX, Checkpoint
from metaprune.streaming.skeleton import Skeleton
from pruners.statistics import Likelihood, collect
from tests.metaprune.streaming.models import COMMON, FAMILIES, saved, tokens

LIKELIHOOD = Likelihood(temperature=2.0, draws=2)


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_one_after_the_other_give_what_the_model_gives(family: str, tmp_path: Path) -> None:
    model, x = saved(family, tmp_path), tokens()
    skeleton = Skeleton(Checkpoint.of(tmp_path))
    chain = Chain(skeleton, (x,))
    assert len(chain.names) == 3
    with torch.no_grad():
        wanted = model(x).logits
        assert torch.equal(skeleton.model(x).logits, wanted)
        entry = chain.enter((x,))
        hidden = entry.hidden
        for i, name in enumerate(chain.names):
            with skeleton.filled(name) as block:
                hidden = block(**chain.inputs(i, hidden, entry))
        assert torch.equal(chain.leave((x,), hidden).logits, wanted)
    assert all(parameter.is_meta for parameter in skeleton.model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_curvature_is_that_of_the_whole_backward_pass(family: str, tmp_path: Path) -> None:
    model = saved(family, tmp_path)
    batches = [(x,) for x in tokens().split(5)]
    skeleton = Skeleton(Checkpoint.of(tmp_path))
    chain = Chain(skeleton, batches[0])
    entries = [chain.enter(batch) for batch in batches]
    states = [[entry.hidden for entry in entries]]
    for i, name in enumerate(chain.names):
        with skeleton.filled(name) as block, torch.no_grad():
            states.append(
                [block(**chain.inputs(i, h, e)) for h, e in zip(states[i], entries, strict=True)]
            )
    weights = [
        name
        for name, value in model.named_parameters()
        if value.ndim > 1 and name.startswith(tuple(f"{block}." for block in chain.names))
    ]
    whole = collect(model, batches, weights, ("curvature",), likelihood=LIKELIHOOD).tensors()
    pulled = pull(chain, batches, states[-1], LIKELIHOOD)
    seen = 0
    for i in reversed(range(len(chain.names))):
        name = chain.names[i]
        inside = [w.removeprefix(f"{name}.") for w in weights if w.startswith(f"{name}.")]
        with skeleton.filled(name):
            found, pulled = pull_back(chain, i, inside, states[i], entries, pulled)
        for weight, value in found.items():
            wanted = whole[f"{name}.{weight}"]["curvature"]
            torch.testing.assert_close(value, wanted, rtol=1e-3, atol=1e-5 * float(wanted.max()))
            seen += 1
    assert seen == sum("curvature" in each for each in whole.values()) > 0


def test_shards_are_read(tmp_path: Path) -> None:
    model, x = saved("llama", tmp_path, max_shard_size="4KB"), tokens()
    assert (tmp_path / INDEX).is_file()
    with torch.no_grad():
        assert torch.equal(
            Skeleton(Checkpoint.of(tmp_path)).model(x).logits, model(x).logits
        )  # fmt: skip


def test_a_held_block_keeps_changes_until_it_is_let_go(tmp_path: Path) -> None:
    model, x = saved("llama", tmp_path), tokens()
    skeleton = Skeleton(Checkpoint.of(tmp_path))
    with torch.no_grad(), skeleton.filled("model.layers.1") as block:
        block.mlp.down_proj.weight.zero_()
        changed = skeleton.model(x).logits
    with torch.no_grad():
        assert not torch.equal(changed, model(x).logits)
        assert torch.equal(skeleton.model(x).logits, model(x).logits)


def test_an_encoder_and_decoder_are_refused(tmp_path: Path) -> None:
    config = transformers.T5Config(
        vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    skeleton = Skeleton(Checkpoint.of(tmp_path))
    x = tokens()
    with pytest.raises(NoChainError):
        Chain(skeleton, {"input_ids": x, "decoder_input_ids": x})


def test_experts_that_are_put_together_when_they_are_loaded_are_refused(tmp_path: Path) -> None:
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    config = transformers.Qwen3MoeConfig(**COMMON, **experts, head_dim=4)
    transformers.Qwen3MoeForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="experts of a mixture"):
        Skeleton(Checkpoint.of(tmp_path))


def test_a_model_without_blocks_is_refused(tmp_path: Path) -> None:
    saved("llama", tmp_path)
    skeleton = Skeleton(Checkpoint.of(tmp_path))
    skeleton.model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(NoChainError, match="no list of repeated blocks"):
        Chain(skeleton, (torch.randn(1, 2),))


def cut_short(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def another_class(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace("LlamaForCausalLM", "LlamaForPruning"))


def more_layers(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    text = text.replace('"num_hidden_layers": 3', '"num_hidden_layers": 4')
    (folder / "config.json").write_text(text)


def outside(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / INDEX).write_text('{"weight_map": {"a": "../a.safetensors"}}')


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_short, "not a readable safetensors file"),
        (without_weights, "has no model.safetensors"),
        (another_class, "names no class"),
        (more_layers, "lacks"),
        (outside, "no file of its folder"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(spoil, words: str, tmp_path: Path) -> None:
    saved("llama", tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=words):
        Skeleton(Checkpoint.of(tmp_path))
