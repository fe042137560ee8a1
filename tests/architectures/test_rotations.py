"""Streams that may be rotated: in float32 the function stays, and so do class and checkpoint."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch

from graphs import Network, trace
from graphs.symmetries.members import random_member
from metaprune.testing.checking import gap
from tests.architectures import ARCHITECTURES, available, build
from tests.architectures.laws import outputs

LANGUAGE = (
    "Llama Qwen2 Qwen3 Qwen2Moe Qwen3Moe Mistral Mixtral Gemma Phi Phi3 Olmo Olmoe StableLm "
    "Starcoder2 Cohere Cohere2 Granite Glm SmolLM3 Nemotron Helium Persimmon SeedOss Ernie4_5 "
    "HunYuanDenseV1 Apertus Arcee DiffLlama GptOss Lfm2 DeepseekV2 DeepseekV3 MiniCPM3 GPTNeo "
    "GPTJ GPTBigCode CodeGen GPTNeoX OPT Falcon Mpt BioGpt Mamba FalconMamba Mamba2 Jamba Bamba"
)
OTHERS = (
    "GPT2LMHeadModel EuroBertForMaskedLM ViTForImageClassification BeitForImageClassification "
    "DeiTForImageClassificationWithTeacher ViTMSNForImageClassification "
    "Dinov2ForImageClassification WhisperForConditionalGeneration "
    "MoonshineForConditionalGeneration"
)
NAMES = [*(f"{name}ForCausalLM" for name in LANGUAGE.split()), *OTHERS.split()]
QUICK = {"LlamaForCausalLM", "GPT2LMHeadModel", "ViTForImageClassification"}
STREAMS = {"feature", "channel", "unit"}
pytestmark = pytest.mark.filterwarnings("ignore")


def turned_everywhere(net: Network) -> tuple[Network, list[str]]:
    """Every axis turned by a random member of its group, and the names of those that were."""
    generator = torch.Generator().manual_seed(0)
    names = [name for name, found in net.symmetries().items() if found.turns]
    for name in names:
        net = net.untie(name)
        net = net.fold_norms(name)
        net = net.rotate(name, random_member(net, net.symmetry(name), generator))
    return net, names


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NAMES],
)
def test_outputs_class_and_checkpoint_stay(name, tmp_path):
    if not available(ARCHITECTURES[name]):
        pytest.skip(f"{ARCHITECTURES[name].needs} cannot be imported here")
    model, inputs = build(name, torch.float32)
    net = trace(model, inputs)
    moved, names = turned_everywhere(net)
    rotated = [net.symmetry(n) for n in names if net.symmetry(n).group == "rotations"]
    assert max(len(s.writers) + len(s.readers) for s in rotated) > 4  # the weights of all layers
    expected = outputs(model, inputs)
    back = moved.to_model()
    assert type(back) is type(model)
    assert gap(expected, outputs(back, inputs)) < 1e-5
    back.save_pretrained(tmp_path)
    opened = type(model).from_pretrained(tmp_path, torch_dtype=torch.float32).eval()
    assert gap(expected, outputs(opened, inputs)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stories260K", "TinyStories-656K"])
def test_perplexity_of_a_real_llama_stays(name):
    root = os.environ.get("METAPRUNE_DATA")
    if root is None:
        pytest.skip(f"set METAPRUNE_DATA to a folder with models/{name}")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(Path(root) / "models" / name).eval()
    net = trace(model, (torch.arange(8)[None],))
    moved, names = turned_everywhere(net)
    assert len(names) == 1 + model.config.num_hidden_layers
    torch.manual_seed(0)
    text = model.generate(torch.full((8, 1), 1), do_sample=True, max_length=120, eos_token_id=None)

    def perplexity(model):
        with torch.no_grad():
            return float(model(text, labels=text).loss.exp())

    assert perplexity(moved.to_model()) == pytest.approx(perplexity(model), rel=1e-5)


def test_forty_architectures_have_a_stream_that_may_be_rotated():
    assert len(NAMES) >= 40
    assert set(ARCHITECTURES) >= set(NAMES) >= QUICK


BLOCKED = {
    "BertForMaskedLM": r"LayerNorm\.weight differs from unit to unit.*goes to aten\.add",
    "Gemma2ForCausalLM": r"post_attention_layernorm\.weight differs .*goes to aten\.add",
    "Olmo2ForCausalLM": r"post_attention_layernorm\.weight differs .*goes to aten\.add",
    "ConvNextForImageClassification": r"its units are told apart by aten\.conv2d",
    "RegNetForImageClassification": r"no matrix passes aten\.relu",
    "T5ForConditionalGeneration": r"output of the model",
}


@pytest.mark.parametrize("name", BLOCKED)
def test_a_stream_that_may_not_be_rotated_says_why(name):
    net = trace(*build(name))
    streams = [s for s in net.symmetries().values() if net.axes[s.axis].kind in STREAMS]
    assert any(re.search(BLOCKED[name], s.blocked) for s in streams)
    assert not any(s.group == "rotations" for s in streams)
