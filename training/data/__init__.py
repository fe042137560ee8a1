"""Data sets: `load(name, **options) -> Data(train, validation, test, task)`."""

from __future__ import annotations

from training.data import cifar10, digits, text
from training.data.core import Data, Split, dataset, fingerprint, hold_out, load, names

__all__ = [
    "Data",
    "Split",
    "cifar10",
    "dataset",
    "digits",
    "fingerprint",
    "hold_out",
    "load",
    "names",
    "text",
]
