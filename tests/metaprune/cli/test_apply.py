"""`metaprune apply`, with networks and data of functions in files of the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import metaprune

MINE = '''
"""A network and data of my own."""

import torch
from torch import nn

from my_sizes import WIDTH


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.second = nn.Linear(6, width), nn.Linear(width, 3)

    def forward(self, x):
        return self.second(self.first(x).relu())


def make(width=WIDTH):
    torch.manual_seed(0)
    return Net(width)


def points(count=60):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 6, generator=generator)
    labels = inputs[:, :3].argmax(1)
    held = torch.utils.data.TensorDataset(inputs[: count // 3], labels[: count // 3])
    return {"train": (inputs[count // 3 :], labels[count // 3 :]), "test": held}


def nothing():
    return 3
'''
OURS = [
    "model=function", "model.function=mine_of_mine.py:make",
    "data=function", "data.function=mine_of_mine.py:points",
    "latency.batch_size=0", "calibration.examples=32",
]  # fmt: skip


@pytest.fixture
def mine(run, tmp_path):
    """The command line in a folder with `mine_of_mine.py`."""
    (tmp_path / "mine_of_mine.py").write_text(MINE)
    (tmp_path / "my_sizes.py").write_text("WIDTH = 16\n")
    return run


def only(command: str) -> Path:
    (folder,) = Path("outputs", command).iterdir()
    return folder


def test_a_plan_is_made_edited_and_carried_out(mine):
    code, out, errors = mine("prune", *OURS, "target.macs=50%", "compare=[]", "seed=0")
    assert code == 0, errors
    saved = only("prune")
    plan = metaprune.Plan.load(saved / "plan-macs50pct.json")
    code, out, errors = mine(
        "apply", *OURS, f"plan={saved / 'plan-macs50pct.json'}", "recovery=[]", "seed=0"
    )
    assert code == 0, errors
    assert "accuracy" in out
    folder = only("apply")
    found = json.loads((folder / "applied.json").read_text())
    assert set(found["figures"]) == {"dense", "pruned"}
    assert found["report"]["achieved"]["macs"] == plan.achieved["macs"]
    model = metaprune.load(folder / "model", trust=True)
    assert type(model).__name__ == "Net"
    assert model.first.out_features < 16


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.function=nowhere.py:make"], "no file"),
        (["model.function=mine_of_mine.py:mak"], 'unknown name "mak" (did you mean "make"?)'),
        (["model.function=mine_of_mine"], "path/to/file.py:function"),
        (["model.options={widht: 3}"], "cannot be built"),
        (["data.function=mine_of_mine.py:nothing"], "must return a mapping with train, test"),
        (["data.options={cuont: 3}"], "cannot be built"),
    ],
)
def test_mistakes_in_functions_of_ones_own(mine, overrides, words):
    code, out, errors = mine("prune", *OURS, "target.macs=50%", *overrides)
    assert code == 1
    assert words in errors
    assert "Traceback" not in out + errors


def test_a_plan_that_is_not_there_is_a_sentence(run):
    code, _, errors = run("apply", "plan=nowhere.json")
    assert code == 1
    assert "nowhere.json" in errors
    code, _, errors = run("apply")
    assert code == 1
    assert "plan has no default: give plan=..." in errors
