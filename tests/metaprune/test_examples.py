"""The examples run as they stand."""

from __future__ import annotations

import runpy

import pytest

from metaprune.packages import HOME

EXAMPLES = sorted((HOME / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path, capsys):
    runpy.run_path(str(path), run_name="__main__")
    assert "largest difference: 0.0" in capsys.readouterr().out
