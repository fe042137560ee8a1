"""Where a result comes from: versions, machine and fingerprints."""

from __future__ import annotations

import platform
import sys
from datetime import date
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

import torch

from metaprune.version import __version__

PACKAGES = ("torch", "torch-geometric", "transformers", "safetensors", "numpy")


def versions() -> dict[str, str]:
    """Versions of metaprune, Python and the packages that numbers depend on."""
    found = {"metaprune": __version__, "python": platform.python_version()}
    return found | dict(_installed())


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    found = []
    for package in PACKAGES:
        loaded = getattr(sys.modules.get(package.replace("-", "_")), "__version__", None)
        try:
            found.append((package, str(loaded or _version(distribution(package)))))
        except PackageNotFoundError:
            found.append((package, "not installed"))
    return tuple(found)


def _version(package: Distribution) -> str:
    """The line of the metadata that says it: to parse all the others takes ten times as long."""
    lines = (package.read_text("METADATA") or "").splitlines()
    stated = (line.partition(":")[2].strip() for line in lines if line.startswith("Version:"))
    return next(stated, None) or package.version


def today() -> str:
    """The date, as 2026-01-31."""
    return date.today().isoformat()


def machine() -> dict[str, Any]:
    """What a measured duration depends on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }
