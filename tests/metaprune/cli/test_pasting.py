"""Commands that people copy: bash, zsh and fish read the same words, and hydra accepts them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from metaprune.cli.main import FLAGS, split_imports
from metaprune.cli.overrides import check_overrides
from tests.metaprune.cli.commands import settings, shown

COMMANDS = shown()
SETTINGS = settings()
SPECIAL = re.compile(r"[\[\]{}*?~!()<>;&|$#^\\`]")
"""What some shell reads as more than itself where it is not quoted."""

DEFINITIONS = {
    "bash": """metaprune() { printf '%s\\0' "$@"; printf '\\n'; }""",
    "zsh": """metaprune() { printf '%s\\0' "$@"; printf '\\n'; }""",
    "fish": """function metaprune; printf '%s\\0' $argv; printf '\\n'; end""",
}


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)[1:]


def test_commands_are_found():
    assert len(COMMANDS) > 25
    assert {"README.md", "command-line.md", "prune.yaml"} <= set(COMMANDS.values())


@pytest.mark.parametrize("line", [*COMMANDS, *SETTINGS])
def test_nothing_that_a_shell_would_read_stands_unquoted(line):
    bare = re.sub(r"'[^']*'|\"[^\"$`\\!]*\"", "", re.sub(r"\s#.*", "", line))
    assert not SPECIAL.findall(bare)


@pytest.mark.parametrize("shell", DEFINITIONS)
def test_shells_read_the_same_words(shell, tmp_path):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    script = "\n".join([DEFINITIONS[shell], *COMMANDS])
    found = subprocess.run(
        [program, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    read = [line.split("\0")[:-1] for line in found.stdout.splitlines()]
    assert read == [words(line) for line in COMMANDS]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_takes_them(line):
    command, *arguments = words(line)
    _, rest = split_imports(arguments)
    overrides = [FLAGS.get(one, one) for one in rest]
    if "--help" in overrides:
        return
    check_overrides(command, overrides)


@pytest.mark.parametrize("line", SETTINGS)
def test_settings_are_read_by_hydra(line):
    OverridesParser.create().parse_overrides(shlex.split(line))
