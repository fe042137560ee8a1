"""What is installed is whole: files, extras, versions."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from metaprune.cli.extras import EXTRAS
from metaprune.version import __version__

ROOT = Path(__file__).parent.parent
PACKAGES = ("graphs", "metanet", "pruners", "training", "metaprune")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DATA = [
    file.relative_to(ROOT).as_posix()
    for pattern in ("conf/**/*.yaml", "metaprune/pretrained/*", "metaprune/templates/**/*")
    for file in sorted(ROOT.glob(pattern))
    if file.is_file()
]
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "hydra": "hydra-core",
                 "omegaconf": "hydra-core", "yaml": "hydra-core",
                 "markupsafe": "jinja2"}  # fmt: skip
"""Module → what is installed for it, where the names differ or it comes with another."""

BUILD = """
import os, sys
_, source, dist = sys.argv
os.chdir(source)
from setuptools import build_meta
build_meta.build_sdist(dist)
build_meta.build_wheel(dist)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the wheel and the sdist, built from a copy of what git tracks."""
    pytest.importorskip("setuptools", minversion="77", reason="builds need setuptools 77")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout: what belongs to the project is not known")
    source, dist = (tmp_path_factory.mktemp(name) for name in ("source", "dist"))
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(source), str(dist)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dist


def test_the_wheel_has_everything_that_is_read(built):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
    }
    assert {*modules, *DATA, "metaprune/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))]
    assert wheel.stat().st_size < 3e6


def test_the_sdist_builds_the_same(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {*DATA, "pyproject.toml", "README.md", "LICENSE"} <= names


def test_the_wheel_works_where_it_is_unpacked(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import json, metaprune, metanet\n"
        "from metaprune.advice import find\n"
        "from metaprune.cli.help import command_help\n"
        "print(json.dumps([metaprune.__file__, str(find('default')), command_help('prune')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    home, found, shown = json.loads(done.stdout)
    assert home.startswith(str(tmp_path))
    assert found.startswith(str(tmp_path))
    assert shown.startswith("metaprune prune")


def imported() -> Iterator[str]:
    """Third-party modules that the packages import, wherever they do."""
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    yield from (alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    yield node.module.partition(".")[0]


def required(extra: str | None = None) -> set[str]:
    lines = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return {line.split("=")[0].split(">")[0].split("<")[0].split("[")[0] for line in lines}


def test_everything_that_is_imported_is_required_or_of_an_extra():
    names = {name for name in imported() if name not in (*sys.stdlib_module_names, *PACKAGES)}
    core = required()
    for name in names - {"onnx", "onnxruntime", "onnxscript"}:
        distribution = DISTRIBUTIONS.get(name, name.replace("_", "-"))
        if distribution not in core:
            assert distribution in required(EXTRAS[name]), name


@pytest.mark.parametrize("module", EXTRAS)
def test_extras_that_errors_name_have_the_package(module):
    distribution = DISTRIBUTIONS.get(module, module.replace("_", "-"))
    assert distribution in required(EXTRAS[module])
    assert distribution not in required()


def test_the_version_is_said_once():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_workflows_run_what_is_run_here():
    jobs = [
        job
        for file in sorted((ROOT / ".github/workflows").glob("*.yml"))
        for job in yaml.safe_load(file.read_text())["jobs"].values()
    ]
    commands = [step.get("run", "") for job in jobs for step in job["steps"]]
    assert ".ci/run" in commands
    oldest = next(d for d in PROJECT["dependencies"] if d.startswith("torch>="))
    lowest = oldest.removeprefix("torch>=").partition(",")[0]
    assert any(f"torch=={lowest}.0" in command for command in commands)
