"""CIFAR-10 in the Hugging Face layout: columns `img` and `label`, by folder or by hub name."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphs.tools.files import read_tensors, write_tensors
from training.data.classified import classified
from training.data.core import Data
from training.data.registry import dataset

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
PIXELS = 32
"""A side of an image, as it is stored."""


@dataset("cifar10")
def cifar10(
    *,
    path: str = "uoft-cs/cifar10",
    mean: tuple[float, float, float] = MEAN,
    std: tuple[float, float, float] = STD,
    size: int = PIXELS,
    augment: bool = True,
    train_size: int | None = None,
    validation: int = 5000,
    seed: int = 0,
) -> Data:
    """Load CIFAR-10: (3, size, size) images, 10 classes, 10,000 test images.

    Args:
        path: a folder of `train-*.parquet` and `test-*.parquet`, or a hub name.
        mean, std: of the normalisation, per channel, for images in [0, 1].
        size: pixels a side, 32 or a divisor of it: means of squares of pixels, rounded.
        augment: random crops (an eighth of the side as padding) and mirrored images in training
            batches.
        train_size: use only this many training images (after validation is set aside).
        validation: how many of the 50,000 training images are held out.
        seed: of the choice of the validation images.

    Raises:
        FileNotFoundError: if a local folder holds no such files.
        ValueError: if the columns are not `img` and `label`, or the size is no divisor of 32.
    """
    return classified(
        "cifar10",
        10,
        [small_images(path, split, "label", size) for split in ("train", "test")],
        mean=mean,
        std=std,
        augment=augment,
        train_size=train_size,
        validation=validation,
        seed=seed,
    )


def small_images(path: str, split: str, column: str, size: int) -> tuple[Tensor, Tensor]:
    """Return (N, size, size, 3) uint8 images of a CIFAR and (N,) int64 labels.

    Args:
        path: a folder of `train-*.parquet` and `test-*.parquet`, or a hub name.
        split: "train" or "test".
        column: of the labels; images are in the column `img`.
        size: pixels a side.

    Raises:
        FileNotFoundError: if a local folder holds no such files.
        ValueError: if a column is missing, or the size is no divisor of 32.
    """
    if size < 1 or PIXELS % size:
        raise ValueError(f"size must be a divisor of {PIXELS} (got {size})")
    images, labels = _decoded(path, split, column)
    if size == PIXELS:
        return images, labels
    side = PIXELS // size
    squares = images.float().unflatten(2, (size, side)).unflatten(1, (size, side))
    return squares.mean((2, 4)).round().to(torch.uint8), labels


@lru_cache(maxsize=4)
def _decoded(path: str, split: str, column: str) -> tuple[Tensor, Tensor]:
    """Return (N, 32, 32, 3) uint8 images and (N,) int64 labels.

    They are decoded once: kept in memory, and beside the table that `datasets` cached.
    """
    table = _table(path, split)
    missing = {"img", column} - set(table.column_names)
    if missing:
        raise ValueError(
            f"data set {path!r} lacks the column {', '.join(sorted(missing))} "
            f"(got {', '.join(table.column_names)})"
        )
    cache = [Path(file["filename"] + ".safetensors") for file in table.cache_files[:1]]
    if cache and cache[0].is_file():
        tensors, _ = read_tensors(cache[0])
        return tensors["images"], tensors["labels"]
    images = torch.from_numpy(np.stack([np.asarray(i.convert("RGB")) for i in table["img"]]))
    labels = torch.tensor(table[column], dtype=torch.int64)
    if cache:
        with suppress(OSError):  # a cache that cannot be written costs time, nothing else
            write_tensors(cache[0], {"images": images, "labels": labels})
    return images, labels


def _table(path: str, split: str) -> Any:
    """Return the split as a `datasets.Dataset`, from a folder of parquet files or the hub."""
    import datasets

    if not Path(path).is_dir():
        return datasets.load_dataset(path, split=split)
    files = sorted(str(file) for file in Path(path).glob(f"**/{split}-*.parquet"))
    if not files:
        raise FileNotFoundError(
            f"data folder {path!r} holds no {split}-*.parquet; give the folder that "
            f"`datasets` exported, or a hub name such as uoft-cs/cifar10"
        )
    return datasets.load_dataset("parquet", data_files=files, split="train")
