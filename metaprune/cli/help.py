"""Help that fits a screen: a command's own settings with their comments, and its groups."""

from __future__ import annotations

from pathlib import Path

import yaml

from metaprune.packages import CONF

OWN = ("hydra", "defaults")


def groups_of(command: str, conf: Path = CONF) -> dict[str, str | None]:
    """The groups that a command chooses from, with the option that it takes by itself."""
    text = (conf / f"{command}.yaml").read_text(encoding="utf-8")
    return dict(_groups(yaml.safe_load(text)["defaults"]))


def command_help(command: str, conf: Path = CONF) -> str:
    """What `metaprune COMMAND --help` shows, read from `conf/COMMAND.yaml`."""
    text = (conf / f"{command}.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    parts = [content["hydra"]["help"]["header"].rstrip()]
    groups = [_group(name, chosen, conf) for name, chosen in groups_of(command, conf).items()]
    if groups:
        parts.append(
            "Groups, chosen by group=option and set by group.key=value:\n" + "\n".join(groups)
        )
    settings = _settings(text)
    if settings:
        parts.append("Settings, with their defaults:\n" + "\n".join(f"  {s}" for s in settings))
    return "\n\n".join(parts)


def _groups(defaults: list) -> list[tuple[str, str | None]]:
    """(group, default option) of the entries that choose one of ours."""
    chosen = [next(iter(entry.items())) for entry in defaults if isinstance(entry, dict)]
    return [(name, option) for name, option in chosen if not name.startswith("override ")]


def _group(name: str, chosen: str | None, conf: Path) -> str:
    options = sorted(path.stem for path in (conf / name).glob("*.yaml"))
    return f"  {name + '=' + str(chosen).replace('None', 'null'):<18}{', '.join(options)}"


def _settings(text: str) -> list[str]:
    """The lines of the file that set something, comments behind them included."""
    lines: list[str] = []
    keep = False
    for line in text.splitlines():
        if line and not line[0].isspace():
            keep = line[0] != "#" and line.partition(":")[0] not in OWN
        if keep and line.strip():
            lines.append(line)
    return lines
