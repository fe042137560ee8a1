"""Data sets by name. A data set is one decorated function, `@dataset("name")`, returning `Data`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from graphs.tools.registry import Registry
from training.config import SettingError, arguments
from training.data.core import Data

Loader: TypeAlias = Callable[..., Data]
DATASETS: Registry[Loader] = Registry("data set")


def dataset(name: str) -> Callable[[Loader], Loader]:
    """Register a function `(*, **options) -> Data` under a name.

    Its keyword arguments are the options of the data set; what is given for them is checked against
    their annotations.

    Raises:
        ValueError: the name is taken.
    """
    return DATASETS.register(name)


def load(name: str, **options: Any) -> Data:
    """Load a registered data set.

    Args:
        name: one of `DATASETS`.
        options: of that data set; see its function.

    Raises:
        ValueError: an unknown name, an option that the data set does not have, or a value that the
            option does not take.
    """
    function = DATASETS.find(name)
    return function(**arguments(function, options, "data"))


def check_settings(settings: Mapping[str, Any], where: str = "data") -> None:
    """Refuse settings of a data set that it does not take; nothing is loaded.

    Args:
        settings: as in `conf/data`: `name`, and options of that data set.
        where: full name of these settings, for errors.

    Raises:
        SettingError: no name, an option that the data set does not have, or a value that the option
            does not take; a ValueError.
        ValueError: an unknown name.
    """
    options = dict(settings)
    if "name" not in options:
        sentence = f"{where}.name is missing: it takes one of {', '.join(DATASETS)}"
        raise SettingError(f"{where}.name", sentence)
    arguments(DATASETS.find(options.pop("name")), options, where)


def load_settings(settings: Mapping[str, Any], where: str = "data") -> Data:
    """Load a data set from settings: `name`, and options of that data set.

    Args:
        settings: as in `conf/data`.
        where: full name of these settings, for errors.

    Raises:
        ValueError: as in `check_settings` and `load`.
    """
    check_settings(settings, where)
    return load(**settings)
