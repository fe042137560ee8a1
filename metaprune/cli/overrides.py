"""Overrides of the command line, checked by name before hydra composes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from graphs.tools.registry import unknown
from metaprune.cli.help import groups_of
from metaprune.packages import CONF

SEVERAL = ("-m", "--multirun")
"""Flags of hydra that make a run of every combination of values."""

ELSEWHERE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
"""Flags of hydra that bring configurations of the user's own, whose names only hydra knows."""

VALUED = ("--cfg", "-c", "--package", "-p")
"""Flags of hydra with a word of their own behind them."""

WITHIN: Mapping[str, str] = {
    "budget": "{{rule: {text}, {key}: {value}}}",
    "schedule": "{{{text}: {{{key}: {value}}}}}",
    "transform": "{{{text}: {{{key}: {value}}}}}",
}
"""Settings that are a name, or a mapping of the name and its options → how that is written."""


def check_overrides(command: str, arguments: Sequence[str]) -> None:
    """Refuse what cannot be read, and a setting or a choice that the command does not have.

    What hydra adds (`+key=value`), its own settings and flags are left to it.

    Args:
        command: whose settings are meant.
        arguments: of the command line.

    Raises:
        ValueError: an unknown setting, with its full name and the nearest one there is; or one that
            cannot be read, with how it is written.
    """
    if any(argument.partition("=")[0] in ELSEWHERE for argument in arguments):
        return
    found = list(map(_read, _settings(arguments)))
    if not set(SEVERAL) & set(arguments):
        for override in found:
            _refuse_several(override)
    own = groups_of(command)
    groups = [o for o in found if o.key_or_group in own]
    for override in groups:
        _check_choice(override)
    chosen = [o.input_line for o in groups if not o.is_sweep_override() and _is_choice(o)]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(command, [line for line in chosen if line is not None])
    given = {o.key_or_group: o for o in found if o not in groups}
    known = list(_names(config))
    for override in found:
        name = override.key_or_group
        if re.split(r"[./]", name)[0] == "hydra" or override in groups or name in known:
            continue
        _refuse_inside(override, config, given)
        if override.is_add():
            continue
        group = name.partition(".")[0]
        if group in own and group not in known:
            choices = ", ".join(sorted(file.stem for file in (CONF / group).glob("*.yaml")))
            raise ValueError(
                f'setting "{name}" belongs to a group of which none is chosen: give '
                f"{group}=... first (one of {choices})"
            )
        raise ValueError(unknown("setting", name, _near(name, known)))


def fixed_names(arguments: Sequence[str]) -> list[str]:
    """Names of the settings that are the same in every run of a sweep."""
    found = map(_read, _settings(arguments))
    return [o.key_or_group for o in found if not o.is_sweep_override()]


def _settings(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments that set something: no flags, and not what stands behind some of them."""
    left = iter(arguments)
    for one in left:
        if one in VALUED:
            next(left, None)
        elif not one.startswith("-"):
            yield one


def _read(argument: str) -> Override:
    """An override, read by hydra's grammar.

    Raises:
        ValueError: it is none.
    """
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        name, equals, _ = argument.partition("=")
        remedy = (
            f"values with spaces, commas or signs of their own stand in quotes, {name}='\"...\"', "
            f"lists in brackets, '{name}=[1,2]', mappings in braces, '{name}={{a: 1}}'"
            if equals
            else "settings are written name=value"
        )
        raise ValueError(f"{argument!r} cannot be read ({reason}); {remedy}") from error


def _refuse_several(override: Override) -> None:
    """Refuse several values where one run is asked.

    Raises:
        ValueError: with both ways out.
    """
    if override.is_sweep_override():
        name, value = override.key_or_group, str(override.input_line).partition("=")[2]
        raise ValueError(
            f"{name}={value} are several values: --multirun makes a run of each, "
            f"'{name}=[{value}]' is one list"
        )


def _is_choice(override: Override) -> bool:
    """Whether an override of a group names one of its options, or leaves the group out."""
    return override.is_delete() or isinstance(override.value(), str | None)


def _check_choice(override: Override) -> None:
    """Refuse an option that a group does not have.

    Raises:
        ValueError: with those that it has, and the nearest.
    """
    if override.is_delete() or override.package is not None:
        return
    value = override.value()
    named = value.list if isinstance(value, ChoiceSweep) else [value]
    options = sorted(file.stem for file in (CONF / override.key_or_group).glob("*.yaml"))
    for one in named:
        if isinstance(one, str) and one not in options:
            raise ValueError(unknown(override.key_or_group, one, options))


def _refuse_inside(override: Override, config: DictConfig, given: Mapping[str, Override]) -> None:
    """Refuse a setting inside of one that is a single value: hydra would put it in its place.

    Raises:
        ValueError: with how both are written.
    """
    parent, _, key = override.key_or_group.rpartition(".")
    if not parent:
        return
    other = given.get(parent)
    value = other.value() if other is not None else OmegaConf.select(config, parent, default={})
    if isinstance(value, Mapping | DictConfig) or (value is None and parent not in WITHIN):
        return
    form = WITHIN.get(parent, "{{{key}: {value}}}")
    text = value if isinstance(value, str) else "NAME"
    whole = form.format(text=text, key=key, value=str(override.input_line).partition("=")[2])
    raise ValueError(
        f"{override.key_or_group} has no place: {parent} is {'null' if value is None else value}, "
        f"which holds no settings; write both in one, '{parent}={whole}'"
    )


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
