"""`metaprune.stream`: masks exact, targets met, the same bytes wherever it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import metaprune
from graphs.tools import files
from metaprune.streaming import run
from tests.metaprune.streaming.models import FAMILIES, saved, tokens

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


def streamed(
    folder: Path, output: Path, x: torch.Tensor | None = None, **options: Any
) -> dict[str, torch.Tensor]:
    metaprune.stream(folder, output, [tokens() if x is None else x], **{**QUICK, **options})
    return contents(output)


def contents(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", ["2:4", "expected loss"])
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


@pytest.mark.parametrize("way", WAYS)
def test_killed_at_any_write_it_goes_on_to_the_same_bytes(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    for at in range(1, count + 1, 1 if way == "2:4" else 4):
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
        (torch.zeros(0, 5, dtype=torch.int64), "at least one batch"),
    ],
)
def test_tokens_that_the_model_cannot_read_are_refused(
    family: str, x: torch.Tensor, words: str, tmp_path: Path
) -> None:
    saved(family, tmp_path / "dense")
    with pytest.raises(ValueError, match=words):
        streamed(tmp_path / "dense", tmp_path / "pruned", x, pattern="2:4")
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def test_two_runs_at_once_do_not_mix(tmp_path: Path) -> None:
    saved("llama", tmp_path / "dense")

    def another(*_: Any) -> None:
        with pytest.raises(RuntimeError, match="another process"):
            streamed(tmp_path / "dense", tmp_path / "pruned", pattern="2:4")

    found = streamed(tmp_path / "dense", tmp_path / "pruned", pattern="2:4", tell=another)
    alone = streamed(tmp_path / "dense", tmp_path / "alone", pattern="2:4")
    assert all(torch.equal(found[name], alone[name]) for name in alone)
