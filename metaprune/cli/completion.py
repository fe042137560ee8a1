"""Tab completion for bash, zsh and fish: what may stand next on a command line.

The scripts of the shells ask `metaprune --complete LINE`, which reads the files in `conf/` and no
heavy package, so that it answers at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from metaprune.cli.help import OWN, groups_of
from metaprune.packages import CONF

FLAGS = ("--help", "--multirun", "--cfg", "--import")
FILES = ("path", "folder", "plan", "train", "test", "tokenizer", "checkpoints", "out", "output")
"""Settings that hold a place on disk, by the last part of their name."""

SCRIPTS: Mapping[str, str] = {
    "bash": """\
_metaprune() {
  local line="${COMP_LINE:0:COMP_POINT}" IFS=$'\\n' word cut
  COMPREPLY=($(metaprune --complete "$line" 2>/dev/null))
  word="${line##* }"; cut="${word%"${word##*[=:]}"}"
  COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}
complete -o nospace -F _metaprune metaprune
""",
    "zsh": """\
_metaprune() {
  local -a found
  found=("${(@f)$(metaprune --complete "$LBUFFER" 2>/dev/null)}")
  [[ -n "$found" ]] && compadd -Q -S '' -- $found
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
compdef _metaprune metaprune
""",
    "fish": """\
complete -c metaprune -f -a '(metaprune --complete (commandline -cp) | string trim -r)'
""",
}
"""Shell → what it reads to complete commands of metaprune."""


def complete(line: str, commands: Iterable[str], lists: Iterable[str]) -> list[str]:
    """Whole words that may stand where a line ends; a space behind those that are complete.

    Args:
        line: up to the cursor, from `metaprune` on.
        commands: names of commands.
        lists: names of what can be listed.
    """
    *before, word = line.split(" ")
    before = [one for one in before if one]
    if len(before) <= 1:
        return _ended(word, (*commands, *lists, "--help", "--version"))
    command = before[1]
    if command not in commands:
        return []
    name, equals, value = word.partition("=")
    if not equals:
        return [*_ended(word, FLAGS), *_begun(word, settings(command, before[2:]))]
    return [f"{name}={found}" for found in _values(command, name, value)]


def settings(command: str, given: Iterable[str] = ()) -> list[str]:
    """Names of the settings of a command, those of the groups as they are chosen.

    Args:
        command: its name.
        given: words before, which may choose options of groups.
    """
    chosen = dict(one.partition("=")[::2] for one in given)
    found = list(_names(_read(CONF / f"{command}.yaml")))
    for group, option in groups_of(command).items():
        found.append(group)
        file = CONF / group / f"{chosen.get(group, option)}.yaml"
        if file.is_file():
            found += [f"{group}.{name}" for name in _names(_read(file))]
    return list(dict.fromkeys(found))


def _read(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8")) or {}


def _names(content: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key, value in content.items():
        if path or key not in OWN:
            yield f"{path}{key}"
            if isinstance(value, Mapping):
                yield from _names(value, f"{path}{key}.")


def _values(command: str, name: str, value: str) -> list[str]:
    if name in groups_of(command):
        return _ended(value, sorted(file.stem for file in (CONF / name).glob("*.yaml")))
    if name.rpartition(".")[2] in FILES:
        return _places(value)
    return _ended(value, ("true", "false")) if _is_switch(command, name) else []


def _is_switch(command: str, name: str) -> bool:
    value: Any = _read(CONF / f"{command}.yaml")
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return isinstance(value, bool)


def _places(value: str) -> list[str]:
    """Files and folders that begin like this."""
    folder, _, start = value.rpartition("/")
    root = Path(f"{folder}/" if "/" in value else ".")
    if not root.is_dir():
        return []
    prefix = f"{folder}/" if "/" in value else ""
    found = sorted(one for one in root.iterdir() if one.name.startswith(start))
    return [f"{prefix}{one.name}" + ("/" if one.is_dir() else " ") for one in found]


def _ended(start: str, words: Iterable[str]) -> list[str]:
    return [f"{word} " for word in words if word.startswith(start)]


def _begun(start: str, names: Iterable[str]) -> list[str]:
    return [f"{name}=" for name in names if name.startswith(start)]
