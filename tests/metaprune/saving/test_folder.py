"""Saved results load without pickles, whole or not at all, and compute the same."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

import metaprune
from graphs import trace
from graphs.tools.files import whole_folder
from metaprune.saving import folder as saving
from tests.metaprune.networks import SOURCE, cnn, images
from tests.oracles.networks.families import build


class Anonymous(nn.Module):
    """A class that nothing can import again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 2)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.drop(self.first(x).relu()))


def prune_cnn(**options):
    return metaprune.prune(cnn(), images(), target={"macs": "50%"}, metanet=None, **options)


def outputs(model, x):
    model.eval()
    with torch.no_grad():
        return model(x)


def test_own_class_comes_back_from_its_source(tmp_path):
    result = prune_cnn(calibration=[images(16)])
    folder = result.save(tmp_path / "pruned", source=SOURCE)
    model = metaprune.load(folder, trust=True)
    assert type(model) is type(result.model)
    assert torch.equal(outputs(model, images(7)[0]), outputs(result.model, images(7)[0]))
    state = model.state_dict()
    assert all(torch.equal(v, state[n]) for n, v in result.model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_kernels_of_half_precision_are_no_other_network(tmp_path, dtype, monkeypatch):
    model, inputs = cnn().to(dtype), (images()[0].to(dtype),)
    result = metaprune.prune(model, inputs, target={"params": "60%"}, metanet=None)
    load = saving.load

    def off_by(share):
        def opened(folder, **options):
            found = load(folder, **options)
            found.register_forward_hook(lambda _, __, output: output * (1 + share))
            return found

        return opened

    monkeypatch.setattr(saving, "load", off_by(2 * torch.finfo(dtype).eps))
    result.save(tmp_path / "pruned", source=SOURCE)
    monkeypatch.setattr(saving, "load", off_by(0.2))
    with pytest.raises(ValueError, match="so nothing was written"):
        result.save(tmp_path / "wrong", source=SOURCE)


@pytest.mark.parametrize("pattern", ["channels", "2:4", "low-rank"])
def test_half_precision_comes_back_in_the_class_of_its_source(tmp_path, pattern):
    model, inputs = cnn().to(torch.bfloat16), (images()[0].to(torch.bfloat16),)
    target = None if pattern == "2:4" else {"params": "60%"}
    result = metaprune.prune(model, inputs, pattern=pattern, target=target, metanet=None)
    folder = result.save(tmp_path / "pruned", source=SOURCE)
    dense = cnn()
    for opened in (metaprune.load(folder, trust=True), metaprune.load(folder, dense=dense)):
        assert type(opened) is type(result.model)
        assert {p.dtype for p in opened.parameters()} == {torch.bfloat16}
        assert torch.equal(outputs(opened, *inputs), outputs(result.model, *inputs))
    assert {p.dtype for p in dense.parameters()} == {torch.float32}


def test_exported_graph_comes_back_trainable(tmp_path):
    torch.manual_seed(0)
    model = Anonymous().eval()
    result = metaprune.prune(model, (torch.randn(1, 6),), target={"params": "60%"}, metanet=None)
    loaded = metaprune.load(result.save(tmp_path / "pruned"))
    x = torch.randn(5, 6)
    assert torch.equal(outputs(loaded, x), outputs(result.model, x))
    loaded.train()
    assert not torch.equal(loaded(x), loaded(x))  # dropout drops again
    loaded(x).sum().backward()
    assert all(p.grad is not None for p in loaded.parameters())


@pytest.mark.parametrize("pattern", ["channels", "2:4"])
def test_transformers_model_comes_back(tmp_path, pattern):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=32,
        tie_word_embeddings=True,
        use_cache=False,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    inputs = {"input_ids": torch.arange(12).reshape(2, 6)}
    target = {"params": "70%"} if pattern == "channels" else None
    result = metaprune.prune(model, inputs, pattern=pattern, target=target, metanet=None)
    folder = result.save(tmp_path / "llama")
    with torch.no_grad():
        expected = result.model(**inputs).logits
        assert torch.equal(metaprune.load(folder)(**inputs).logits, expected)
        if pattern == "2:4":  # zeros need no code of ours
            plain = LlamaForCausalLM.from_pretrained(folder)
            assert torch.equal(plain(**inputs).logits, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("pattern", "target"), [("unstructured", {"sparsity": 0.5}), ("equal-widths", {"macs": "70%"})]
)
def test_classes_that_keep_weights_in_single_precision_open(tmp_path, dtype, pattern, target):
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=48, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        decoder_start_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "shared" not in name:
                parameter.mul_(10)
    model = model.to(dtype)
    ids = torch.randint(0, 48, (2, 6))
    inputs = {"input_ids": ids, "decoder_input_ids": ids[:, :5]}
    result = metaprune.prune(model, inputs, pattern=pattern, target=target)
    folder = result.save(tmp_path / "t5")
    opened = metaprune.load(folder, trust=True)
    with torch.no_grad():
        assert torch.equal(opened(**inputs).logits, result.model(**inputs).logits)
    plain = dict(T5ForConditionalGeneration.from_pretrained(folder).named_parameters())
    assert plain.keys() == dict(result.model.named_parameters()).keys()
    assert all(
        torch.equal(plain[name], value.to(plain[name].dtype))
        for name, value in result.model.named_parameters()
    )


def test_folder_says_what_it_is(tmp_path):
    result = prune_cnn()
    folder = result.save(tmp_path / "small", source=SOURCE)
    assert metaprune.Plan.load(folder / "plan.json") == result.plan
    assert json.loads((folder / "report.json").read_text())["achieved"] == result.report["achieved"]
    card = (folder / "README.md").read_text()
    assert "metaprune.load" in card
    assert "| MACs |" in card


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "write_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        prune_cnn().save(tmp_path / "pruned", source=SOURCE)
    assert list(tmp_path.iterdir()) == []


def test_a_source_of_another_network_is_refused(tmp_path):
    other = {**SOURCE, "options": {"width": 12}}
    with pytest.raises(ValueError, match="made for"):
        prune_cnn().save(tmp_path / "pruned", source=other)
    assert list(tmp_path.iterdir()) == []


def test_a_full_folder_is_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="not empty"):
        prune_cnn().save(tmp_path, source=SOURCE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_whole_folder_replaces_an_empty_one(tmp_path):
    target = tmp_path / "empty"
    target.mkdir()
    with whole_folder(target) as inside:
        (inside / "file").write_text("x")
        assert not any(target.iterdir())
    assert (target / "file").read_text() == "x"


@pytest.mark.parametrize("name", ["metaprune.json", "model.safetensors", "plan.json"])
def test_damage_is_a_clear_error(tmp_path, name):
    folder = prune_cnn().save(tmp_path / "pruned", source=SOURCE)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=name.partition(".")[0]):
        metaprune.load(folder, trust=True)


def test_no_folder_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no pruned network"):
        metaprune.load(tmp_path)


def test_the_class_comes_back_where_it_is_given(tmp_path):
    result = prune_cnn()
    folder = result.save(tmp_path / "pruned")
    assert json.loads((folder / "metaprune.json").read_text())["kind"] == "exported"
    dense = cnn(seed=3)
    before = {name: value.clone() for name, value in dense.state_dict().items()}
    model = metaprune.load(folder, dense=dense)
    assert type(model) is type(result.model)
    assert torch.equal(outputs(model, images(7)[0]), outputs(result.model, images(7)[0]))
    assert all(torch.equal(value, before[name]) for name, value in dense.state_dict().items())
    with pytest.raises(ValueError, match="made for"):
        metaprune.load(folder, dense=cnn(width=12))


@pytest.mark.parametrize("options", [{"source": SOURCE}, {}])
def test_what_is_not_trained_stays_so(tmp_path, options):
    dense = cnn()
    dense[0].weight.requires_grad_(False)
    result = metaprune.prune(dense, images(), target={"macs": "50%"}, metanet=None)
    result.model.train()
    model = metaprune.load(result.save(tmp_path / "pruned", **options), trust=True)
    trained = [name for name, p in result.model.named_parameters() if p.requires_grad]
    assert [name for name, p in model.named_parameters() if p.requires_grad] == trained
    assert len(trained) < len(list(model.parameters()))
    assert model.training


def test_an_exported_language_model_takes_other_lengths(tmp_path):
    """Its head features are cut unevenly, which no Llama can be: the program comes back."""
    model, inputs = build("llama")
    net = trace(model, inputs)
    features = [name for name in net.axes if name.endswith("v_proj.out.head_feature")]
    kept = {features[0]: torch.tensor([0, 2, 3])}
    plan = metaprune.Plan("channels", "magnitude", "global", kept=metaprune.Plan.keeping(net, kept))
    result = metaprune.apply(model, inputs, plan)
    assert "exported graph" in " ".join(result.report["notes"])
    loaded = metaprune.load(result.save(tmp_path / "pruned"))
    ids = torch.randint(0, 30, (3, 11))
    with torch.no_grad():
        expected = result.model(input_ids=ids).logits
        torch.testing.assert_close(loaded(input_ids=ids).logits, expected)


def test_repairs_are_reported():
    result = prune_cnn()
    assert any(field == "out_channels" for _, field, _, _ in result.report["repaired"])
    assert json.loads(json.dumps(result.report)) == result.report


RUN: list[str] = []


def hostile():
    """What a folder of somebody else's may name."""
    RUN.append("it ran")
    return cnn()


@pytest.mark.parametrize(
    "source",
    [
        {"source": "function", "function": f"{__name__}:hostile"},
        {"source": "function", "function": "FILE:hostile"},
        {"source": "pruned", "path": "elsewhere"},
        {"source": "family", "family": "cnn", "path": "elsewhere"},
    ],
)
def test_nothing_that_a_folder_names_is_run_without_trust(source, tmp_path):
    folder = prune_cnn().save(tmp_path / "pruned", source=SOURCE)
    file = tmp_path / "mine.py"
    file.write_text(
        f"import {__name__} as own\n\nown.RUN.append('imported')\nhostile = own.hostile\n"
    )
    how = json.loads((folder / "metaprune.json").read_text())
    named = {key: value.replace("FILE", str(file)) for key, value in source.items()}
    how["dense"]["architecture"] = {"source": named}
    (folder / "metaprune.json").write_text(json.dumps(saving.sealed(how)))
    RUN.clear()
    with pytest.raises(ValueError, match=r"trust=True.*dense="):
        metaprune.load(folder)
    assert not RUN
    if named["source"] == "function":
        metaprune.load(folder, trust=True)
        assert RUN
