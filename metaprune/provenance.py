"""Where a result comes from: versions, machine and fingerprints."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from metaprune import __version__

PACKAGES = ("torch", "torch-geometric", "transformers", "safetensors", "numpy")


def versions() -> dict[str, str]:
    """Versions of metaprune, Python and the packages that numbers depend on."""
    found = {"metaprune": __version__, "python": platform.python_version()}
    return found | dict(_installed())


@cache
def _installed() -> tuple[tuple[str, str], ...]:
    found = []
    for package in PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            found.append((package, "not installed"))
    return tuple(found)


def machine() -> dict[str, Any]:
    """What a measured duration depends on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def file_digest(path: Path) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
