"""Networks from configuration: where a network comes from is one registered function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import nn

from graphs.tools.registry import Registry
from training.config import SettingError, arguments

Source: TypeAlias = Callable[..., nn.Module]
SOURCES: Registry[Source] = Registry("source of models")


def source(name: str) -> Callable[[Source], Source]:
    """Register a function `(*, **options) -> nn.Module` as a source of networks.

    Its keyword arguments are the options of the source; what is given for them is checked against
    their annotations.

    Raises:
        ValueError: the name is taken.
    """
    return SOURCES.register(name)


def load(source: str, **options: Any) -> nn.Module:
    """Load a network, in evaluation mode.

    Args:
        source: one of `SOURCES`.
        options: of that source; see its function.

    Raises:
        ValueError: an unknown source, an option that it does not have, a value that the option does
            not take, or a checkpoint that does not fit.
        FileNotFoundError: a path does not exist.
    """
    function = SOURCES.find(source)
    return function(**arguments(function, options, "model")).eval()


def check_settings(settings: Mapping[str, Any], where: str = "model") -> None:
    """Refuse settings of a network that its source does not take; nothing is loaded.

    Args:
        settings: as in `conf/model`: `source`, and options of that source.
        where: full name of these settings, for errors.

    Raises:
        SettingError: no source, an option that it does not have, or a value that the option does
            not take; a ValueError.
        ValueError: an unknown source.
    """
    options = dict(settings)
    if "source" not in options:
        sentence = f"{where}.source is missing: it takes one of {', '.join(SOURCES)}"
        raise SettingError(f"{where}.source", sentence)
    arguments(SOURCES.find(options.pop("source")), options, where)


def load_settings(settings: Mapping[str, Any], where: str = "model") -> nn.Module:
    """Load a network from settings: `source`, and options of that source.

    Args:
        settings: as in `conf/model`.
        where: full name of these settings, for errors.

    Raises:
        ValueError, FileNotFoundError: as in `check_settings` and `load`.
    """
    check_settings(settings, where)
    return load(**settings)
