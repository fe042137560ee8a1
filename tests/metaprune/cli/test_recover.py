"""`metaprune recover`: what `prune` saved, trained further and saved again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import metaprune
from tests.training.fitting.events import scalars

FAST = ["data.train_size=300", "progress=false"]


def saved_by_prune(run) -> Path:
    code, _, errors = run(
        "prune", "pattern=unstructured", "target.sparsity=0.7", "compare=[]", "budget=uniform",
        "latency.batch_size=0", "recovery=[]", "calibration.examples=64", "data.train_size=300",
    )  # fmt: skip
    assert code == 0, errors
    (folder,) = Path("outputs", "prune").iterdir()
    return next(path for path in folder.iterdir() if path.name.startswith("model-"))


def test_it_trains_further_and_saves(run) -> None:
    pruned = saved_by_prune(run)
    code, out, errors = run(
        "recover", f"model.path={pruned}", *FAST, "track=tensorboard",
        "recovery=[{finetune: {epochs: 8, distillation: 0, part: low-rank, lr: 0.02,"
        " batch_size: 32}}]",
    )  # fmt: skip
    assert code == 0, errors
    (folder,) = Path("outputs", "recover").iterdir()
    found = json.loads((folder / "recovered.json").read_text())
    assert found["figures"]["recovered"]["loss"] < found["figures"]["pruned"]["loss"]
    assert "Finetuned for" in out
    logged = scalars(folder)
    assert {"finetune/loss", "finetune/lr", "finetune/validation/accuracy"} <= set(logged)
    assert len(logged["finetune/validation/accuracy"]) >= 8
    before, after = metaprune.load(pruned), metaprune.load(folder / "model")
    for (name, was), (_, now) in zip(
        before.named_parameters(), after.named_parameters(), strict=True
    ):
        if was.ndim > 1:
            assert bool((now[was == 0] == 0).all()), name
            assert not torch.equal(now, was)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["recovery=[imitate]"], "teacher"),
        (["recovery=[order]"], "while a network is pruned"),
        (["recovery=[finetun]"], "finetune"),
        (["recovery=[{finetune: {part: half}}]"], "part"),
        (["+teacher.source=famly"], "famly"),
    ],
)
def test_mistakes_are_one_sentence(run, overrides: list[str], words: str) -> None:
    pruned = saved_by_prune(run)
    code, out, errors = run("recover", f"model.path={pruned}", *FAST, *overrides)
    assert code != 0
    assert words in out + errors
    assert "Traceback" not in out + errors
