"""What a configuration has no fields for opens by `from_pretrained` with metaprune, else never."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM

import metaprune
from metaprune.saving.shapes import told
from tests.metaprune.streaming.models import FAMILIES, tokens

X = tokens(4, 8)
WAYS: dict[str, dict[str, Any]] = {
    "widths": {"target": {"macs": "70%"}},
    "ranks": {"pattern": "low-rank", "target": {"params": "80%"}},
    "ranks beside masks": {
        "pattern": "sparse+low-rank",
        "target": {"sparsity": 0.5},
        "calibration": [(X,)],
    },
    "widths, then ranks": {"target": {"macs": "80%"}},
}


def pruned(family: str, way: str) -> metaprune.Result:
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    result = metaprune.prune(model, (X,), metanet=None, **WAYS[way])
    if way == "widths, then ranks":
        result = metaprune.prune(result.model, (X,), metanet=None, **WAYS["ranks"])
    return result


def same(opened: nn.Module, model: nn.Module) -> bool:
    return type(opened) is type(model) and torch.equal(
        opened.eval()(X).logits, model.eval()(X).logits
    )


@pytest.mark.parametrize(
    ("family", "way"), [*(("llama", way) for way in WAYS), ("gpt2", "widths"), ("opt", "ranks")]
)
def test_auto_classes_open_it_in_its_class(family: str, way: str, tmp_path: Path) -> None:
    result = pruned(family, way)
    folder = result.save(tmp_path / "pruned")
    opened = AutoModelForCausalLM.from_pretrained(folder)
    assert same(opened, result.model)
    assert same(type(result.model).from_pretrained(folder), result.model)
    assert same(metaprune.load(folder), result.model)
    ids = opened.generate(X[:1], max_new_tokens=3, do_sample=False)
    assert torch.equal(ids, result.model.generate(X[:1], max_new_tokens=3, do_sample=False))


@pytest.mark.parametrize("way", ["widths", "ranks"])
def test_it_trains_and_is_saved_by_others_and_opens_again(way: str, tmp_path: Path) -> None:
    opened = AutoModelForCausalLM.from_pretrained(pruned("llama", way).save(tmp_path / "pruned"))
    arguments = transformers.TrainingArguments(
        str(tmp_path / "trainer"), max_steps=2, per_device_train_batch_size=2, learning_rate=1e-2,
        report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    before = {name: value.detach().clone() for name, value in opened.named_parameters()}
    rows = [{"input_ids": x, "labels": x} for x in X]
    transformers.Trainer(opened, arguments, train_dataset=rows).train()
    assert any(bool((p != before[n]).any()) for n, p in opened.named_parameters())
    opened.save_pretrained(tmp_path / "again")
    assert same(AutoModelForCausalLM.from_pretrained(tmp_path / "again"), opened)


def test_dtypes_are_those_that_are_asked_for(tmp_path: Path) -> None:
    folder = pruned("llama", "widths").save(tmp_path / "pruned")
    opened = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in opened.parameters()} == {torch.bfloat16}


ALONE = """
import sys, transformers
for folder in sys.argv[1:]:
    for kind in (transformers.AutoModelForCausalLM, transformers.LlamaForCausalLM):
        try:
            kind.from_pretrained(folder)
        except RuntimeError as error:
            assert "ignore_mismatched_sizes" in str(error), error
        else:
            sys.exit(f"{kind} opens {folder}")
import metaprune
transformers.AutoModelForCausalLM.from_pretrained(folder)
"""


def test_without_metaprune_it_is_refused(tmp_path: Path) -> None:
    folders = [str(pruned("llama", way).save(tmp_path / way)) for way in ("widths", "ranks")]
    opened = AutoModelForCausalLM.from_pretrained(folders[1])
    opened.save_pretrained(tmp_path / "again")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *folders, str(tmp_path / "again")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda q: q.update(format=2), "another version of metaprune"),
        (lambda q: q["steps"][0].update(kept={"nothing": [3, 2]}), "save the result again"),
        (lambda q: q["steps"][0]["kept"].update({"model.layers.0.mlp.gate_proj.out": [32, 10**12]}),
         "save the result again"),
        (lambda q: q.update(example=[[{"shape": [4], "dtype": "load"}], {}]), "is no dtype"),
        (lambda q: q.update(steps=7), "save the result again"),
    ],
)  # fmt: skip
def test_what_was_changed_is_refused(change: Any, words: str, tmp_path: Path) -> None:
    folder = pruned("llama", "widths").save(tmp_path / "pruned")
    content = json.loads((folder / "config.json").read_text())
    change(content["quantization_config"])
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words):
        AutoModelForCausalLM.from_pretrained(folder)


def test_a_transformers_without_such_methods_is_imported_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "metaprune.saving.registered", None)
    metaprune._tell_transformers(None)
    assert "metaprune.load does" in caplog.text


def test_what_can_be_said_plainly_needs_none_of_it(tmp_path: Path) -> None:
    model = FAMILIES["llama"]().eval()
    folder = metaprune.prune(model, (X,), pattern="2:4", metanet=None).save(tmp_path / "masks")
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


def test_nested_inputs_cannot_be_said() -> None:
    result = pruned("llama", "widths")
    assert told(result.plan, {"input_ids": X, "use_cache": False}) is not None
    assert told(result.plan, ({"input_ids": X},)) is None
