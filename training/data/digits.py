"""Handwritten digits: 1,797 images of 8x8 grey levels (UCI, shipped with scikit-learn)."""

from __future__ import annotations

from dataclasses import replace

import torch

from training.data.core import Data
from training.data.images import CropFlip, Normalise
from training.data.registry import dataset
from training.data.split import Split, fingerprint, hold_out
from training.data.tasks import Classification

TEST = 447
VALIDATION = 350
COPIES = 4
"""Of every training image where there is noise."""


@dataset("digits")
def digits(
    *, augment: bool = False, noise: float = 0.0, train_size: int | None = None, seed: int = 0
) -> Data:
    """Load the digits: 1,000 train, 350 validation and 447 test images, (1, 8, 8), 10 classes.

    Args:
        augment: shift training images by up to one pixel.
        noise: standard deviation of grey noise, of a range of 1: a harder task. Training images
            then are there `COPIES` times, each with its own.
        train_size: use only this many training images.
        seed: of the choice of the validation images; the test images never change.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8)[..., None]  # (N, 8, 8, 1), 0..16
    labels = torch.from_numpy(bunch.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    normalise = Normalise(mean=(0.305,), std=(0.376,), scale=16.0)
    everything = Split(images, labels, normalise)
    test = everything.select(order[:TEST])
    crop = CropFlip(padding=1, flip=False) if augment else None
    rest = everything.select(order[TEST:])
    train, validation = hold_out(
        Split(rest.inputs, rest.targets, normalise, crop), VALIDATION, seed
    )
    train = train.take(train_size)
    if noise:
        train = train.select(torch.arange(len(train)).repeat(COPIES))
        parts = enumerate((train, validation, test))
        train, validation, test = (_noisy(part, noise, seed=i) for i, part in parts)
    splits = (train, validation, test)
    return Data("digits", *splits, Classification(10), (1, 8, 8), 10, fingerprint(splits))


def _noisy(split: Split, noise: float, seed: int) -> Split:
    """The split with noise on its grey levels, the same every time."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(split.inputs.shape, generator=generator) * 16 * noise
    levels = (split.inputs.float() + drawn).round().clamp(0, 16)
    return replace(split, inputs=levels.to(torch.uint8))
