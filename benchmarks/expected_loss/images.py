"""Networks on CIFAR-10 and on its half-size images: calibration, accuracy and divergence."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.expected_loss.cells import Subject
from metaprune import Calibration
from training import data as datasets
from training import sources
from training.data.core import Data
from training.meta.soft import divergence
from training.zoo.members import load_member

BATCH = 256
"""Images a calibration batch."""

JUDGED = 512
"""Images a batch of what only runs forward."""

LEFT_OUT = 1024
"""Training images beside the calibration, for the divergence."""

TEST = 4000
"""First test images, for the accuracy."""

ZOO_TRAINING = 40_000
"""Training images of the small networks; calibration is drawn from these."""


@cache
def cifar10(path: Path) -> Data:
    """CIFAR-10 from a folder of parquet files."""
    return datasets.load("cifar10", path=str(path))


@cache
def cifar16(path: Path) -> Data:
    """CIFAR-10 at 16 × 16 pixels, as the small networks were trained on it."""
    return datasets.load("cifar10", path=str(path), size=16, train_size=ZOO_TRAINING)


def resnet(checkpoints: Path, depth: int) -> nn.Module:
    """He et al.'s ResNet for CIFAR of this depth, from a folder of akamaster's checkpoints.

    Raises:
        FileNotFoundError: the folder lacks it.
    """
    found = sorted(checkpoints.glob(f"resnet{depth}-*.th"))
    if not found:
        raise FileNotFoundError(f"{str(checkpoints)!r} holds no resnet{depth}-*.th")
    options = {"depth": depth}
    path = str(found[0])
    return sources.load("family", family="cifar_resnet", options=options, path=path).eval()


def member(folder: Path, data: Data) -> nn.Module:
    """A small network of a zoo.

    Raises:
        ValueError: it was trained on other images than these.
    """
    found = load_member(folder)
    trained_on = found.metrics["data"]["fingerprint"]
    if trained_on != data.fingerprint:
        raise ValueError(
            f"{str(folder)!r} was trained on the images {trained_on}, these are {data.fingerprint}"
        )
    return found.load()


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, classes), in pieces."""
    with torch.no_grad():
        return torch.cat([model(piece) for piece in images.split(JUDGED)])


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Share of images whose class scores highest, in per cent."""
    return round(100 * float((scores.argmax(1) == labels).float().mean()), 3)


@cache
def _tests(data: Data) -> tuple[Tensor, Tensor]:
    return data.test.batch(torch.arange(TEST))


def subject(model: nn.Module, data: Data, examples: int, seed: int, tested: bool) -> Subject:
    """An image network; calibration and the images beside it are drawn from training images.

    Args:
        model: the dense network.
        data: what it was trained on.
        examples: images of the calibration.
        seed: of the choice.
        tested: whether accuracy is taken of test images; else of the images left out.
    """
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
    chosen = order[:examples].split(BATCH)
    images, labels = data.train.batch(order[examples : examples + LEFT_OUT])
    tests = _tests(data) if tested else None
    dense = logits(model, images)

    def judge(pruned: nn.Module) -> dict[str, float]:
        scores = logits(pruned, images)
        found = {"kl": round(float(divergence(scores, dense)), 6)}
        if tests is None:
            return {**found, "accuracy": accuracy(scores, labels)}
        return {**found, "accuracy": accuracy(logits(pruned, tests[0]), tests[1])}

    calibration = Calibration([(data.train.batch(index)[0],) for index in chosen])
    return Subject(model, data.example_inputs(), calibration, judge)
