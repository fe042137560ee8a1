"""CIFAR-100 in the Hugging Face layout: columns `img` and `fine_label`, by folder or hub name."""

from __future__ import annotations

from training.data.cifar10 import PIXELS, small_images
from training.data.classified import classified
from training.data.core import Data
from training.data.registry import dataset

MEAN = (0.5071, 0.4867, 0.4408)
STD = (0.2675, 0.2565, 0.2761)


@dataset("cifar100")
def cifar100(
    *,
    path: str = "uoft-cs/cifar100",
    mean: tuple[float, float, float] = MEAN,
    std: tuple[float, float, float] = STD,
    augment: bool = True,
    train_size: int | None = None,
    validation: int = 5000,
    seed: int = 0,
) -> Data:
    """Load CIFAR-100: (3, 32, 32) images, 100 fine classes, 10,000 test images.

    Args:
        path: a folder of `train-*.parquet` and `test-*.parquet`, or a hub name.
        mean, std: of the normalisation, per channel, for images in [0, 1].
        augment: random crops (4 pixels of padding) and mirrored images in training batches.
        train_size: use only this many training images (after validation is set aside).
        validation: how many of the 50,000 training images are held out.
        seed: of the choice of the validation images.

    Raises:
        FileNotFoundError: if a local folder holds no such files.
        ValueError: if the columns are not `img` and `fine_label`.
    """
    return classified(
        "cifar100",
        100,
        [small_images(path, split, "fine_label", PIXELS) for split in ("train", "test")],
        mean=mean,
        std=std,
        augment=augment,
        train_size=train_size,
        validation=validation,
        seed=seed,
    )
