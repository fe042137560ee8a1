"""Images with classes, as a data set: what all that are stored so have in common."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from training.data.core import Data
from training.data.images import CropFlip, Normalise
from training.data.split import Split, fingerprint, hold_out
from training.data.tasks import Classification


def classified(
    name: str,
    classes: int,
    parts: Sequence[tuple[Tensor, Tensor]],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    augment: bool,
    train_size: int | None,
    validation: int,
    seed: int,
) -> Data:
    """A data set of square images.

    Args:
        name: of the data set.
        classes: how many there are.
        parts: of training and test, (N, size, size, channels) uint8 images and (N,) int64 labels.
        mean, std: of the normalisation, per channel, for images in [0, 1].
        augment: random crops (an eighth of the side as padding) and mirrored images in training
            batches.
        train_size: use only this many training images (after validation is set aside).
        validation: how many training images are held out.
        seed: of the choice of those.
    """
    fitted, tested = parts
    _, size, _, channels = fitted[0].shape
    normalise = Normalise(tuple(mean), tuple(std))
    crop = CropFlip(padding=size // 8) if augment else None
    train, held_out = hold_out(Split(*fitted, normalise, crop), validation, seed)
    splits = (train.take(train_size), held_out, Split(*tested, normalise))
    shape = (channels, size, size)
    return Data(name, *splits, Classification(classes), shape, classes, fingerprint(splits))
