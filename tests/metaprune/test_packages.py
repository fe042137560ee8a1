"""Packages with generic names are found, or the one that shadows them is named."""

from __future__ import annotations

import subprocess
import sys

import pytest

from metaprune.packages import CONF, HOME, PACKAGES, check_packages


def python(code: str, folder) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{folder}:{HOME}"},
    )


def test_our_packages_are_found():
    check_packages()
    assert (CONF / "prune.yaml").is_file()


def test_a_missing_package_is_named():
    with pytest.raises(ImportError, match="no_such_package"):
        check_packages(packages=("no_such_package",))


@pytest.mark.parametrize("name", PACKAGES)
def test_a_shadowing_module_is_named_in_one_sentence(tmp_path, name):
    (tmp_path / f"{name}.py").write_text("")
    found = python("import metaprune", tmp_path)
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: metaprune needs its own package '{name}'")
    assert str(tmp_path / f"{name}.py") in last
    assert "rename" in last


def test_a_shadowing_folder_is_named(tmp_path):
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "__init__.py").write_text("")
    assert str(tmp_path / "graphs") in python("import metaprune", tmp_path).stderr


def test_importing_is_lazy(tmp_path):
    code = "import sys, metaprune, metaprune.cli.main; print('torch' in sys.modules)"
    assert python(code, tmp_path).stdout.strip() == "False"


def test_public_names_exist():
    import metaprune

    for name in metaprune.__all__:
        assert getattr(metaprune, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = metaprune.nothing
