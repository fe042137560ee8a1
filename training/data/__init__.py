"""Data sets: `load(name, **options) -> Data(train, validation, test, task)`.

`split` holds examples in memory, `tasks` says what a network is trained and judged for, `core` is a
data set made of both. `registry` finds data sets by name; each of them is one file (`digits`,
`cifar10`, `cifar100`, `folder`, `text`, `function`), and a file of yours that registers one is as
good. `images` prepares pictures, `classified` makes a data set of those that have classes.
"""

from __future__ import annotations

from training.data import cifar10, cifar100, digits, folder, function, text
from training.data.core import Data
from training.data.registry import DATASETS, check_settings, dataset, load, load_settings
from training.data.split import Batch, Split, fingerprint, hold_out
from training.data.tasks import Classification, LanguageModelling, Task

__all__ = [
    "DATASETS",
    "Batch",
    "Classification",
    "Data",
    "LanguageModelling",
    "Split",
    "Task",
    "check_settings",
    "cifar10",
    "cifar100",
    "dataset",
    "digits",
    "fingerprint",
    "folder",
    "function",
    "hold_out",
    "load",
    "load_settings",
    "text",
]
