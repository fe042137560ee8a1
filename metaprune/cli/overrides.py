"""Overrides of the command line, checked by name before hydra composes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from graphs.tools.registry import unknown
from metaprune.packages import CONF


def check_overrides(command: str, overrides: Sequence[str]) -> None:
    """Refuse a setting that the command does not have.

    What hydra adds (`+key=value`), its own settings and flags are left to it, and so is what it
    cannot read: it says why.

    Args:
        command: whose settings are meant.
        overrides: arguments of the command line.

    Raises:
        ValueError: an unknown setting; with its full name, and the nearest one there is.
    """
    try:
        found = OverridesParser.create().parse_overrides(
            [o for o in overrides if not o.startswith("-")]
        )
        groups = [o for o in found if (CONF / o.key_or_group).is_dir()]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(
                command, [str(o.input_line) for o in groups if not o.is_sweep_override()]
            )
    except HydraException:
        return
    known = list(_names(config))
    for override in found:
        name = override.key_or_group
        free = override.is_add() or name.partition(".")[0] == "hydra"
        if free or override in groups or name in known:
            continue
        group = CONF / name.partition(".")[0]
        if group.is_dir() and group.name not in known:
            choices = ", ".join(sorted(file.stem for file in group.glob("*.yaml")))
            raise ValueError(
                f'setting "{name}" belongs to a group of which none is chosen: give '
                f"{group.name}=... first (one of {choices})"
            )
        raise ValueError(unknown("setting", name, _near(name, known)))


def _names(config: DictConfig, path: str = "") -> Iterator[str]:
    """Full names of all settings, those that hold others too."""
    for key in map(str, config):
        yield f"{path}{key}"
        inner = config._get_node(key)
        if isinstance(inner, DictConfig) and not inner._is_none() and not inner._is_missing():
            yield from _names(inner, f"{path}{key}.")


def _near(name: str, known: Sequence[str]) -> list[str]:
    """The settings of the same group, or of the top where there is no such group."""
    group = name.rpartition(".")[0]
    if group in known:
        inside = [one for one in known if one.startswith(f"{group}.")]
        return inside or [group]
    return [one for one in known if "." not in one]
