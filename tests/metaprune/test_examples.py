"""The examples, which are the tutorials of the documentation, run as they stand."""

from __future__ import annotations

import runpy
import sys

import pytest

from metaprune.packages import HOME
from pruners.solvers import SOLVERS

EXAMPLES = sorted((HOME / "examples").glob("*.py"))
LONG = {"train_a_metanetwork", "exact_transformations", "a_llama"}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in LONG else [])
        for path in EXAMPLES
    ],
)
def test_example_runs(path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(path)])
    with SOLVERS.scoped():
        runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
