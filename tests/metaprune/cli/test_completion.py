"""What may stand next is offered, by the files of settings, and bash inserts it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from metaprune.cli.completion import SCRIPTS, complete, settings
from metaprune.cli.main import COMMANDS, LISTS
from metaprune.packages import HOME


def offered(line: str) -> list[str]:
    return complete(line, COMMANDS, LISTS)


def test_commands_and_settings_are_offered():
    assert offered("metaprune pr") == ["prune "]
    assert {"prune ", "models ", "--help "} <= set(offered("metaprune "))
    assert offered("metaprune prune targ") == [
        "target=", "target.macs=", "target.params=", "target.size_mb=", "target.units=",
        "target.speedup=", "target.sparsity=",
    ]  # fmt: skip
    assert offered("metaprune prune --mu") == ["--multirun "]
    assert offered("metaprune prnue targ") == []


def test_groups_are_completed_and_bring_their_settings():
    assert offered("metaprune prune model=resnet5") == ["model=resnet56 "]
    assert offered("metaprune prune data=cifar10 data.tr") == ["data.train_size="]
    assert offered("metaprune prune data.tok") == []
    assert offered("metaprune prune data=text data.tok") == ["data.tokenizer="]


def test_switches_and_places_are_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "one").mkdir(parents=True)
    (tmp_path / "models" / "two.th").touch()
    assert offered("metaprune prune save=") == ["save=true ", "save=false "]
    assert offered("metaprune prune model.path=mod") == ["model.path=models/"]
    assert offered("metaprune prune model.path=models/") == [
        "model.path=models/one/", "model.path=models/two.th ",
    ]  # fmt: skip
    assert offered("metaprune prune model.path=nowhere/x") == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_settings(command):
    assert len(settings(command)) >= 3


def test_scripts_are_printed_and_other_shells_refused(run):
    for shell, script in SCRIPTS.items():
        assert run("--completion", shell) == (0, script, "")
    code, _, errors = run("--completion", "csh")
    assert code == 2
    assert "one of bash, zsh, fish" in errors


@pytest.mark.parametrize(
    ("line", "inserted"),
    [
        ("metaprune pru", ["prune "]),
        ("metaprune prune model=resnet5", ["resnet56 "]),
        ("metaprune prune target.ma", ["target.macs="]),
    ],
)
def test_bash_inserts_it(line, inserted, tmp_path):
    """As bash calls it: what it inserts begins behind the last sign that breaks words there."""
    program = shutil.which("bash")
    if program is None:
        pytest.skip("bash is not installed")
    script = f"""
    metaprune() {{ {sys.executable} -m metaprune "$@"; }}
    {SCRIPTS["bash"]}
    COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; _metaprune
    printf '[%s]\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        [program, "-c", script], cwd=HOME, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [f"[{one}]" for one in inserted], done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_can_read_their_script(shell, tmp_path: Path):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    file = tmp_path / "script"
    file.write_text(SCRIPTS[shell])
    done = subprocess.run([program, "-n", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
