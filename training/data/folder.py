"""Images in folders by class, as ImageNet is unpacked: `train/CLASS/*`, `val/CLASS/*`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.data.classified import classified
from training.data.core import Data
from training.data.registry import dataset

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
TRAIN, TEST = ("train",), ("val", "validation", "test")
"""What the folders of the splits may be called; the first that is there counts."""


@dataset("images")
def image_folder(
    *,
    path: str,
    size: int = 224,
    resize: int = 256,
    mean: tuple[float, float, float] = MEAN,
    std: tuple[float, float, float] = STD,
    augment: bool = True,
    train_size: int = 6000,
    test_size: int | None = None,
    validation: int = 1000,
    seed: int = 0,
) -> Data:
    """Images of folders, each with a folder for every class; they are held in memory.

    A side of an image is brought to `resize` pixels, and its middle is cut out (bicubic).
    224 x 224 x 3 bytes of 10,000 images are 1.5 GB.

    Args:
        path: folder with `train` and `val` (or `validation`, or `test`, which is what is reported).
        size: pixels a side.
        resize: pixels of the shorter side before the middle is cut out.
        mean, std: of the normalisation, per channel, for images in [0, 1].
        augment: shifted and mirrored images in training batches.
        train_size: training images that are read, of all classes in turn, held-out ones included.
        test_size: of the other split; None for all.
        validation: how many of the training images are held out.
        seed: of the choice of images.

    Raises:
        FileNotFoundError: no such folder, or one without images.
        ValueError: `size` is larger than `resize`, or a class that was not in training.
    """
    if not 0 < size <= resize:
        raise ValueError(f"size must lie above 0, and not above resize (got {size}, {resize})")
    root = Path(path)
    train_files = _files(root, TRAIN)
    classes = {name: i for i, name in enumerate(sorted({file.parent.name for file in train_files}))}
    test_files = _files(root, TEST)
    other = sorted({file.parent.name for file in test_files} - set(classes))
    if other:
        raise ValueError(f"class {other[0]!r} of {path!r} has no training images")
    parts = []
    for files, count in ((train_files, train_size), (test_files, test_size)):
        chosen = _in_turn(files, count, seed)
        images = torch.stack([_image(file, size, resize) for file in chosen])
        parts.append((images, torch.tensor([classes[file.parent.name] for file in chosen])))
    return classified(
        "images",
        len(classes),
        parts,
        mean=mean,
        std=std,
        augment=augment,
        train_size=None,
        validation=validation,
        seed=seed,
    )


def _files(root: Path, names: tuple[str, ...]) -> list[Path]:
    folder = next((root / name for name in names if (root / name).is_dir()), None)
    found = [] if folder is None else sorted(folder.glob("*/*"))
    found = [file for file in found if file.suffix.lower() in ENDINGS]
    if not found:
        said = " or ".join(f"{name}/CLASS/IMAGE" for name in names)
        raise FileNotFoundError(f"data folder {str(root)!r} holds no {said}")
    return found


def _in_turn(files: list[Path], count: int | None, seed: int) -> list[Path]:
    """So many files: a random one of every class, then another of every class, and so on."""
    if count is None or count >= len(files):
        return files
    generator = torch.Generator().manual_seed(seed)
    mixed = [files[i] for i in torch.randperm(len(files), generator=generator).tolist()]
    seen: dict[str, int] = {}
    turns = []
    for file in mixed:
        seen[file.parent.name] = seen.get(file.parent.name, 0) + 1
        turns.append((seen[file.parent.name], str(file), file))
    return sorted(file for _, _, file in sorted(turns)[:count])


def _image(file: Path, size: int, resize: int) -> Tensor:
    """(size, size, 3) uint8."""
    from PIL import Image

    with Image.open(file) as opened:
        image = opened.convert("RGB")
    scale = resize / min(image.size)
    wide, high = (max(resize, round(side * scale)) for side in image.size)
    image = image.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = (wide - size) // 2, (high - size) // 2
    return torch.from_numpy(np.array(image.crop((left, top, left + size, top + size))))
