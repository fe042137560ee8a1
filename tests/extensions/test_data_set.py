"""A data set from outside: calibrates, finetunes, and is known to the command line."""

from __future__ import annotations

import json

import pytest
import torch

import metaprune
from tests.extensions.networks import CNN, FIT, cnn
from training import FitConfig, data, fit


def test_its_settings_are_checked_like_those_of_the_package(add):
    add("data set")
    stripes = data.load("stripes", size=8)
    assert (stripes.shape, len(stripes.train), len(stripes.test)) == ((1, 8, 8), 80, 20)
    again = data.load("stripes", size=8)
    assert again.fingerprint == stripes.fingerprint != data.load("stripes").fingerprint
    with pytest.raises(ValueError, match=r"^data\.size takes a whole number \(got 'eight'\)"):
        data.load("stripes", size="eight")
    with pytest.raises(ValueError, match='did you mean "stripes"'):
        data.load("stripe")


def test_a_network_learns_it_is_pruned_and_learns_again(add, reopened):
    add("data set")
    stripes, model = data.load("stripes"), cnn()
    fit(model, stripes, FitConfig(**FIT))
    result = metaprune.prune(
        model.eval(),
        stripes.example_inputs(),
        target={"macs": "50%"},
        metanet=None,
        data=stripes,
        finetune=FIT,
    )
    assert any("accuracy" in note for note in result.report["notes"])
    reopened(result, source=CNN)


def test_the_command_line_imports_it(write, run, tmp_path):
    module = write("data set")
    code, _, errors = run(
        "prune",
        f"--import={module}",
        "model=function",
        f"model.function={CNN['function']}",
        "~data",
        "+data={name: stripes, size: 8}",
        "target.macs=50%",
        "metanet=null",
        "budget=global",
        "compare=[]",
        "calibration.examples=40",
        "latency.batch_size=0",
    )
    assert code == 0, errors
    (folder,) = (tmp_path / "outputs" / "prune").iterdir()
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert "stripes" in json.dumps(report)
    (saved,) = (path.parent for path in folder.glob("*/metaprune.json"))
    assert metaprune.load(saved, trust=True)(torch.zeros(2, 1, 8, 8)).shape == (2, 2)


def test_a_module_that_is_not_there_is_an_error_in_one_sentence(run):
    code, _, errors = run("prune", "--import", "no_such_module")
    assert code == 2
    assert "--import takes the name of a module" in errors
    assert "No module named 'no_such_module'" in errors
    assert len(errors.strip().splitlines()) == 1
    assert run("prune", "--import")[0] == 2
