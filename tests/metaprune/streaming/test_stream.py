"""`metaprune.stream`: masks exact, targets met, the same bytes wherever it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModelForCausalLM

import metaprune
from graphs.tools import files
from metaprune.streaming import run
from tests.metaprune.streaming.models import APART, FAMILIES, saved, tokens

QUICK = {"solver": "sparsegpt", "batch_size": 4}
WAYS: dict[str, dict[str, Any]] = {
    "2:4": {"pattern": "2:4", "sides": 1},
    "uniform": {"target": {"sparsity": 0.5}, "budget": "uniform"},
    "expected loss": {"target": {"sparsity": 0.6}},
    "imitated": {
        "target": {"sparsity": 0.5},
        "budget": "uniform",
        "imitate": {"steps": 4, "judge_every": 2},
    },
}


def streamed(folder: Path, output: Path, x: Any = None, **options: Any) -> dict[str, torch.Tensor]:
    metaprune.stream(folder, output, [tokens() if x is None else x], **{**QUICK, **options})
    return contents(output)


def contents(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(name, marks=() if name in ("gpt2", "gemma2", "mamba") else pytest.mark.slow)
        for name in (*FAMILIES, *APART)
    ],
)
@pytest.mark.parametrize("way", ["2:4", pytest.param("expected loss", marks=pytest.mark.slow)])
def test_the_result_is_a_checkpoint_like_the_one_before(
    family: str, way: str, tmp_path: Path
) -> None:
    model = saved(family, tmp_path / "dense")
    found = streamed(tmp_path / "dense", tmp_path / "pruned", **WAYS[way])
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned").eval()
    report = json.loads((tmp_path / "pruned" / run.REPORT).read_text())
    before = load_file(tmp_path / "dense" / "model.safetensors")
    assert type(opened) is type(model)
    assert found.keys() == before.keys()
    assert report["shares"]
    wanted, total = 0.5 if way == "2:4" else 0.6, 0
    for name, value in dict(opened.named_parameters()).items():
        share = report["shares"].get(name)
        if share is None:
            continue
        zeros = int((value == 0).sum())
        total += zeros
        assert zeros == pytest.approx((1 - share) * value.numel(), abs=1)
        if way == "2:4":
            groups = value.detach().T if family == "gpt2" else value.detach()
            assert int((groups.reshape(-1, 4) == 0).sum(1).min()) == 2
    assert total / report["weights"] == pytest.approx(wanted, abs=2 / report["weights"])
    assert report["sparsity"] == pytest.approx(total / report["weights"])
    outside = [n for n in before if not any(f".{i}." in n for i in range(3))]
    assert outside
    assert all(torch.equal(found[name], before[name]) for name in outside)


def test_kept_activations_give_the_same_bytes(tmp_path: Path) -> None:
    saved("llama", tmp_path / "dense")
    ways = [
        streamed(tmp_path / "dense", tmp_path / way, pattern="2:4", activations=way)
        for way in ("recomputed", "kept")
    ]
    assert all(torch.equal(ways[0][name], ways[1][name]) for name in ways[0])


def test_it_is_what_pruning_in_memory_gives(tmp_path: Path) -> None:
    model, x = saved("llama", tmp_path / "dense"), tokens()
    found = streamed(tmp_path / "dense", tmp_path / "pruned", pattern="2:4", sides=1)
    whole = metaprune.prune(
        model, (x,), calibration=[(part,) for part in x.split(4)], pattern="2:4",
        solver="sparsegpt", metanet=None, ignore=["lm_head", "model.embed_tokens"],
        recovery=[{"order": {"sides": 1}}],
    ).model  # fmt: skip
    for name, value in whole.named_parameters():
        if ".layers." in name:
            torch.testing.assert_close(found[name], value.detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_two_sides_and_steps_lose_less(tmp_path: Path) -> None:
    saved("llama", tmp_path / "dense")
    lost = {}
    for name, options in {
        "one": {"sides": 1, "budget": "uniform"},
        "two": {"budget": "uniform"},
        "moved": {"budget": "uniform", "imitate": {"steps": 60, "lr": 1e-3, "judge_every": 5}},
    }.items():
        asked = {"target": {"sparsity": 0.5}, **options}
        streamed(tmp_path / "dense", tmp_path / name, tokens(128, 24), **asked)
        lost[name] = json.loads((tmp_path / name / run.REPORT).read_text())["divergence"]
    assert 0 < lost["moved"] < lost["two"] < lost["one"]


class Killed(BaseException):
    """Not an exception that anybody handles."""


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "way",
    [pytest.param(w, marks=() if w == "expected loss" else pytest.mark.slow) for w in WAYS],
)
def test_killed_at_any_write_it_goes_on_to_the_same_bytes(
    way: str, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved("llama", tmp_path / "dense")
    writes = [0]
    whole, last = files.os.replace, [-1]

    def replace(source: Any, target: Any) -> None:
        writes[0] += 1
        if writes[0] == last[0]:
            raise Killed
        whole(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    wanted = streamed(tmp_path / "dense", tmp_path / "once", **WAYS[way])
    count = writes[0]
    assert count > 15
    for at in range(1, count + 1, every):
        writes[0], last[0] = 0, at
        output = tmp_path / f"killed-{at}"
        with pytest.raises(Killed):
            streamed(tmp_path / "dense", output, **WAYS[way])
        last[0] = -1
        assert not output.exists()
        found = streamed(tmp_path / "dense", output, **WAYS[way])
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
        assert not (tmp_path / f".{output.name}.part").exists()


def test_an_interrupted_run_is_not_continued_with_other_settings(tmp_path: Path) -> None:
    saved("llama", tmp_path / "dense")

    def stop(*_: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        streamed(tmp_path / "dense", tmp_path / "pruned", pattern="2:4", tell=stop)
    with pytest.raises(ValueError, match="interrupted run with other settings"):
        streamed(tmp_path / "dense", tmp_path / "pruned", pattern="1:4")
    named = {"inputs_embeds": tokens()}
    with pytest.raises(ValueError, match="interrupted run with other settings, data"):
        metaprune.stream(tmp_path / "dense", tmp_path / "pruned", [named], **QUICK, pattern="2:4")


def test_dtypes_and_ignored_parts_stay(tmp_path: Path) -> None:
    saved("llama", tmp_path / "dense", torch.bfloat16)
    found = streamed(tmp_path / "dense", tmp_path / "pruned", pattern="2:4", ignore=["*.down_proj"])
    before = load_file(tmp_path / "dense" / "model.safetensors")
    assert all(value.dtype == torch.bfloat16 for value in found.values())
    for name, value in found.items():
        if "down_proj" in name:
            assert not bool((value == 0).any() and not (before[name] == 0).any())
    assert any((value == 0).any() for name, value in found.items() if "up_proj" in name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pattern": "channels", "target": {"sparsity": 0.5}}, "prunes by masks"),
        ({"pattern": "2:4", "target": {"sparsity": 0.5}}, "leaves no choice"),
        ({"target": {"macs": "50%"}}, "sparsity"),
        ({}, "sparsity"),
        ({"pattern": "2:4", "budget": "owl"}, "divides by"),
        ({"pattern": "2:4", "sides": 3}, "sides"),
        ({"pattern": "2:4", "solver": "gradient"}, "solver"),
        ({"pattern": "2:4", "imitate": {"stepz": 1}}, "stepz"),
        ({"pattern": "2:4", "dtype": "floaty"}, "dtype"),
        ({"pattern": "2:4", "dtype": "int8"}, "floating dtype"),
        ({"pattern": "2:4", "device": "meta"}, "does not compute here"),
        ({"pattern": "2:4", "device": "nowhere"}, "does not compute here"),
        ({"pattern": "2:4", "ignore": ["*"]}, "no weight inside the blocks"),
        ({"pattern": "2:7"}, "no weight inside the blocks"),
        ({"target": {"sparsity": 1.0}}, "does not make sense"),
        ({"target": {"sparsity": "much"}}, "expected a number"),
        ({"pattern": "2:4", "ignore": ["nothing"]}, "ignore"),
        ({"patern": "2:4"}, "patern"),
        ({"target": {"sparsity": 0.5}, "batch_size": 0}, "batch_size"),
    ],
)
def test_settings_that_make_no_sense_are_refused_and_leave_nothing(
    options: dict, words: str, tmp_path: Path
) -> None:
    saved("llama", tmp_path / "dense")
    with pytest.raises(ValueError, match=words):
        metaprune.stream(tmp_path / "dense", tmp_path / "pruned", [tokens()], **options)
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def test_an_output_that_is_there_is_left_alone(tmp_path: Path) -> None:
    saved("llama", tmp_path / "dense")
    with pytest.raises(FileExistsError):
        streamed(tmp_path / "dense", tmp_path / "dense", pattern="2:4")


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.full((2, 5), 40), "the tokenizer that belongs to it"),
        (torch.full((2, 5), -1), "the tokenizer that belongs to it"),
        (torch.zeros(2, 33, dtype=torch.int64), "32 positions"),
        (torch.full((2, 5), 40, dtype=torch.int32), "the tokenizer that belongs to it"),
        (torch.zeros(0, 5, dtype=torch.int64), "at least one batch"),
        (torch.zeros(5, dtype=torch.int64), "token ids are whole numbers"),
        (torch.zeros(2, 5), "float32 of shape"),
    ],
)
def test_tokens_that_the_model_cannot_read_are_refused(
    family: str, x: torch.Tensor, words: str, tmp_path: Path
) -> None:
    saved(family, tmp_path / "dense")
    with pytest.raises(ValueError, match=words):
        streamed(tmp_path / "dense", tmp_path / "pruned", x, pattern="2:4")
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def quantized(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    config["quantization_config"] = {"quant_method": "fp8"}


def whole_numbers(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.ones(32, 16, dtype=torch.int8)


def eight_bits(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.ones(32, 16).to(torch.float8_e4m3fn)


def another_shape(config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.ones(16, 16)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (quantized, "is quantized"),
        (whole_numbers, "a quantized weight"),
        (eight_bits, "a quantized weight"),
        (another_shape, "do not belong together"),
    ],
)
def test_a_checkpoint_that_is_no_plain_one_is_refused(
    spoil: Any, words: str, tmp_path: Path
) -> None:
    saved("llama", tmp_path / "dense")
    weights, said = tmp_path / "dense" / "model.safetensors", tmp_path / "dense" / "config.json"
    config, tensors = json.loads(said.read_text()), load_file(weights)
    spoil(config, tensors)
    said.write_text(json.dumps(config))
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=words):
        streamed(tmp_path / "dense", tmp_path / "pruned", pattern="2:4")
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


@pytest.mark.parametrize(
    "mode", [torch.inference_mode, pytest.param(torch.no_grad, marks=pytest.mark.slow)]
)
def test_the_mode_of_the_caller_changes_nothing(mode: Any, tmp_path: Path) -> None:
    saved("llama", tmp_path / "dense")
    wanted = streamed(tmp_path / "dense", tmp_path / "plain", **WAYS["imitated"])
    with mode():
        found = streamed(
            tmp_path / "dense", tmp_path / "inside", tokens().clone(), **WAYS["imitated"]
        )
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_one_tensor_is_one_batch(tmp_path: Path) -> None:
    saved("llama", tmp_path / "dense")
    alone = metaprune.stream(tmp_path / "dense", tmp_path / "alone", tokens(), pattern="2:4")
    listed = metaprune.stream(tmp_path / "dense", tmp_path / "listed", [tokens()], pattern="2:4")
    a, b = contents(alone), contents(listed)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_steps_that_nothing_would_judge_are_refused_before_any_work(tmp_path: Path) -> None:
    saved("llama", tmp_path / "dense")
    with pytest.raises(ValueError, match="at least two batches"):
        streamed(tmp_path / "dense", tmp_path / "pruned", tokens(4), pattern="2:4", imitate={})
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def test_steps_on_a_block_do_not_look_at_masked_places(tmp_path: Path) -> None:
    saved("llama", tmp_path / "dense")
    mask = torch.ones(12, 10, dtype=torch.int64)
    mask[:, 3:6] = 0
    batch = {"input_ids": tokens(), "attention_mask": mask}
    looked: list[torch.Tensor | None] = []
    real = run.BlockError.size

    def size(self: run.BlockError, difference: torch.Tensor, example: run.Example) -> torch.Tensor:
        looked.append(example.counted)
        return real(self, difference, example)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.BlockError, "size", size)
        asked = {"pattern": "2:4", "imitate": {"steps": 2}, "batch_size": 4}
        metaprune.stream(tmp_path / "dense", tmp_path / "pruned", batch, **asked)
    assert looked
    assert all(one is not None and torch.equal(one, mask[:4].bool()) for one in looked)


@pytest.mark.parametrize("way", ["2:4", "imitated"])
def test_padding_changes_nothing(way: str, tmp_path: Path) -> None:
    saved("llama", tmp_path / "dense")
    plain, filled = tokens(8, 6), tokens(8, 10)
    mask = torch.ones_like(filled).index_fill(1, torch.arange(6, 10), 0)
    filled = torch.cat([plain, filled[:, 6:]], 1)
    batch = {"input_ids": filled, "attention_mask": mask}
    alone = {"input_ids": plain, "attention_mask": torch.ones_like(plain)}
    found = [
        streamed(tmp_path / "dense", tmp_path / name, given, **WAYS[way])
        for name, given in (("padded", batch), ("alone", alone))
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_two_runs_at_once_do_not_mix(tmp_path: Path) -> None:
    saved("llama", tmp_path / "dense")

    def another(*_: Any) -> None:
        with pytest.raises(RuntimeError, match="another process"):
            streamed(tmp_path / "dense", tmp_path / "pruned", pattern="2:4")

    found = streamed(tmp_path / "dense", tmp_path / "pruned", pattern="2:4", tell=another)
    alone = streamed(tmp_path / "dense", tmp_path / "alone", pattern="2:4")
    assert all(torch.equal(found[name], alone[name]) for name in alone)


def test_data_and_weights_are_checked_before_anything_is_pruned(tmp_path):
    model = saved("llama", tmp_path / "dense")
    ids = tokens()
    loader = DataLoader(TensorDataset(ids, torch.zeros(len(ids), dtype=torch.long)), batch_size=4)
    options = {**QUICK, **WAYS["uniform"]}
    metaprune.stream(tmp_path / "dense", tmp_path / "by loader", loader, **options)
    metaprune.stream(tmp_path / "dense", tmp_path / "by tensor", ids, **options)
    name = "model-00001-of-00004.safetensors"
    pair = [load_file(tmp_path / which / name) for which in ("by loader", "by tensor")]
    assert all(torch.equal(value, pair[1][key]) for key, value in pair[0].items())
    with pytest.raises(ValueError, match="has the token 99, and the model knows 0 to 39"):
        metaprune.stream(
            tmp_path / "dense", tmp_path / "words", ids.masked_fill(ids == 3, 99), **options
        )
    with pytest.raises(ValueError, match="at least one batch"):
        metaprune.stream(tmp_path / "dense", tmp_path / "none", ids[:0], **options)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    model.save_pretrained(tmp_path / "diverged")
    with pytest.raises(ValueError, match=r'"model.layers.1.mlp.up_proj.weight" holds NaN'):
        metaprune.stream(tmp_path / "diverged", tmp_path / "pruned", ids, **options)
    assert not (tmp_path / "pruned").exists()
