"""Configuration stops at the door: composed YAML becomes typed values, mistakes are errors."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue
from torch import nn

from graphs.tools.files import write_text
from training import data as datasets
from training import sources
from training.config import from_mapping
from training.data.core import Data
from training.fitting.tracking import tracking
from training.sources import source

T = TypeVar("T")


def plain(config: DictConfig) -> dict[str, Any]:
    """The settings as plain values, with interpolations resolved.

    Raises:
        ValueError: a setting that has no default and was not given.
    """
    try:
        found = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        name = error.full_key or str(error)
        raise ValueError(f"{name} has no default: give {name}=...") from error
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def typed(cls: type[T], config: DictConfig) -> tuple[T, dict[str, Any]]:
    """A command's settings, and the same as plain values for its report.

    Raises:
        ValueError: a setting that is unknown or not what it takes, with its full name.
    """
    content = plain(config)
    return from_mapping(cls, content), content


def check_groups(model: Mapping[str, Any], data: Mapping[str, Any] | None = None) -> None:
    """Refuse a network or a data set that cannot be meant, before either is loaded.

    Args:
        model: settings of the group `model`.
        data: those of the group `data`; None where none is chosen.

    Raises:
        ValueError: a setting that is unknown or not what it takes, with its full name.
    """
    sources.check_settings(model)
    if data:
        datasets.check_settings(data)


def run_folder(content: Mapping[str, Any]) -> Path:
    """The folder of this run, with its settings written into it."""
    from hydra.core.hydra_config import HydraConfig

    folder = Path(HydraConfig.get().runtime.output_dir)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(content))))
    return folder


def typed_command() -> str:
    """The command of this run as it is typed, quoted for shells; of a sweep, that of its point."""
    from hydra.core.hydra_config import HydraConfig

    own = HydraConfig.get()
    place = [one for one in own.overrides.hydra if one.startswith("hydra.run.dir=")]
    return shlex.join(["metaprune", str(own.job.name), *own.overrides.task, *place])


@contextmanager
def tracked(
    track: str | Sequence[str] | None, folder: Path, content: Mapping[str, Any]
) -> Iterator[None]:
    """Log what is trained inside to trackers.

    Args:
        track: their names, or one; None for none.
        folder: of the run, for those that write files.
        content: all settings.
    """
    with tracking(listed(track), folder, content):
        yield


def listed(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """A setting that is a name or several, as several."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def load_data(settings: Mapping[str, Any]) -> Data:
    """A data set from its group's settings: `name` and its options.

    Raises:
        ValueError: a setting of `data` that is unknown or not what it takes, with its full name.
    """
    return datasets.load_settings(settings)


def load_model(settings: Mapping[str, Any]) -> nn.Module:
    """A network from its group's settings: `source` and its options.

    Raises:
        ValueError: a setting of `model` that is unknown or not what it takes, with its full name.
        FileNotFoundError: a checkpoint or folder that is not there.
    """
    return sources.load_settings(settings)


def untrained(settings: Mapping[str, Any]) -> str | None:
    """A sentence for a network whose weights were never trained; None where nothing says so.

    Architectures of this package have initial weights without a checkpoint; what a function of
    another package returns may be trained or not.
    """
    if settings.get("source") != "family" or settings.get("path") is not None:
        return None
    return (
        "The network was never trained: its weights are initial ones (model.path=null), so scores "
        "and losses mean nothing; give model.path=CHECKPOINT."
    )


def architecture(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same source without its checkpoint, if it needs no file; else None."""
    kept = {key: value for key, value in settings.items() if key != "path"}
    return kept if settings.get("source") in ("family", "function") else None


@source("pruned")
def from_pruned(*, path: str, trust: bool = False) -> nn.Module:
    """Load a network that `metaprune prune` or `Result.save` wrote.

    Args:
        path: its folder.
        trust: run the function that the folder may name (`metaprune.load`).
    """
    from metaprune.saving.folder import load

    return load(path, trust=trust)
