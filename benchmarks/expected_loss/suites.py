"""What is measured: networks, patterns, targets and sizes of the calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.expected_loss import images, texts
from benchmarks.expected_loss.cells import Subject
from benchmarks.expected_loss.rules import COMPONENTS, FINISHED, RULES, TRANSFORMED, Rule
from benchmarks.small_models import IMAGES, TEXT
from training.zoo.members import PARTS, load_member, members

LLAMAS = ("stories260K", "TinyStories-656K")
UNTIED = " untied"
"""After the name of a Llama: its head is a tensor of its own, and may be factored."""

DEPTHS = (20, 32, 56)


@dataclass(frozen=True)
class Sources:
    """Where networks and data lie.

    Args:
        llamas: folder of `LLAMAS`, each a folder that transformers opens.
        tinystories: folder of the two texts.
        resnets: folder of akamaster's checkpoints.
        cifar10: folder of parquet files.
        zoo: folder of `train` and `held_out` members that were trained on 16 × 16 pixels.
        small: folder that `benchmarks.small_models` wrote.
    """

    llamas: Path
    tinystories: Path
    resnets: Path
    cifar10: Path
    zoo: Path
    small: Path


@dataclass(frozen=True)
class Ask:
    """A cell without its rule and seed; see `cells.Cell`."""

    model: str
    pattern: str
    target: Mapping[str, Any]
    examples: int


@dataclass(frozen=True)
class Suite:
    """One benchmark.

    Args:
        asks: sources → what is asked.
        subject: (sources, model, examples, seed) → the network and what it is judged on.
        figure: that the tables show, of the figures.
        seeds: of the calibration.
        rules: label → rule, that it compares.
    """

    asks: Callable[[Sources], Iterator[Ask]]
    subject: Callable[[Sources, str, int, int], Subject]
    figure: str
    seeds: tuple[int, ...] = (0, 1, 2)
    rules: Mapping[str, Rule] = field(default_factory=lambda: RULES)


def _masks(sources: Sources) -> Iterator[Ask]:
    for model in LLAMAS:
        for sparsity in (0.5, 0.6, 0.7):
            yield Ask(model, "unstructured", {"sparsity": sparsity}, 48)
        yield Ask(model, "2:4", {}, 48)


def _finished(sources: Sources) -> Iterator[Ask]:
    for ask in _masks(sources):
        yield replace(ask, examples=128)


def _channels(sources: Sources) -> Iterator[Ask]:
    for model in LLAMAS:
        for share in (90, 80, 70):
            yield Ask(model, "channels", {"macs": f"{share}%"}, 64)


def _narrower(sources: Sources) -> Iterator[Ask]:
    for pattern in ("channels", "equal-widths"):
        for ask in _channels(sources):
            yield replace(ask, pattern=pattern)


def _ranks(sources: Sources) -> Iterator[Ask]:
    for model in (*LLAMAS, *(name + UNTIED for name in LLAMAS)):
        for share in (90, 80, 70, 60):
            yield Ask(model, "low-rank", {"params": f"{share}%"}, 48)


def _resnets(sources: Sources) -> Iterator[Ask]:
    for examples in (512, 2048):
        for depth in DEPTHS:
            for speedup in (1.5, 2.0, 3.0):
                yield Ask(f"ResNet-{depth}", "channels", {"speedup": speedup}, examples)
    for depth in (20, 56):
        for sparsity in (0.5, 0.6, 0.7, 0.8, 0.9):
            yield Ask(f"ResNet-{depth}", "unstructured", {"sparsity": sparsity}, 512)


def _zoo(sources: Sources) -> Iterator[Ask]:
    for part in PARTS:
        for member in members(sources.zoo, part):
            for share in (50, 30):
                name = f"{part}/{member.folder.name}"
                yield Ask(name, "channels", {"macs": f"{share}%"}, 1024)


def _others(sources: Sources) -> Iterator[Ask]:
    for ask in _masks(sources):
        if ask.model == LLAMAS[0]:
            for model in TEXT:
                yield replace(ask, model=model)


def _narrower_others(sources: Sources) -> Iterator[Ask]:
    for model in TEXT:
        for share in (90, 80, 70):
            yield Ask(model, "channels", {"macs": f"{share}%"}, 64)


def _images(sources: Sources) -> Iterator[Ask]:
    for model in IMAGES:
        for sparsity in (0.5, 0.6, 0.7):
            yield Ask(model, "unstructured", {"sparsity": sparsity}, 1024)
        yield Ask(model, "2:4", {}, 1024)


def _narrower_images(sources: Sources) -> Iterator[Ask]:
    for model in IMAGES:
        for share in (90, 80, 70):
            yield Ask(model, "channels", {"macs": f"{share}%"}, 1024)


def _masked(sources: Sources, model: str, examples: int, seed: int) -> Subject:
    folder = sources.llamas / model
    return texts.subject(folder, sources.tinystories, examples, seed, apart=True, whole=True)


def _llama(sources: Sources, model: str, examples: int, seed: int) -> Subject:
    folder, apart = sources.llamas / model.removesuffix(UNTIED), model.endswith(UNTIED)
    return texts.subject(folder, sources.tinystories, examples, seed, apart=apart)


def _resnet(sources: Sources, model: str, examples: int, seed: int) -> Subject:
    network = images.resnet(sources.resnets, int(model.removeprefix("ResNet-")))
    return images.subject(network, images.cifar10(sources.cifar10), examples, seed, tested=True)


def _member(sources: Sources, model: str, examples: int, seed: int) -> Subject:
    data = images.cifar16(sources.cifar10)
    network = images.member(sources.zoo / model, data)
    return images.subject(network, data, examples, seed, tested=False)


def _other(whole: bool) -> Callable[[Sources, str, int, int], Subject]:
    def subject(sources: Sources, model: str, examples: int, seed: int) -> Subject:
        network = load_member(sources.small / "train" / model).load()
        tokenizer = sources.llamas / LLAMAS[0]
        return texts.subject_of(
            network, tokenizer, sources.tinystories, examples, seed, whole=whole
        )

    return subject


def _image(sources: Sources, model: str, examples: int, seed: int) -> Subject:
    data = images.cifar10(sources.cifar10)
    network = images.member(sources.small / "train" / model, data)
    return images.subject(network, data, examples, seed, tested=True)


SUITES: Mapping[str, Suite] = {
    "masks": Suite(_masks, _masked, "perplexity"),
    "transformations": Suite(_masks, _masked, "perplexity", (0,), TRANSFORMED),
    "finishers": Suite(_finished, _masked, "perplexity", (0,), FINISHED),
    "transformations-others": Suite(_others, _other(True), "perplexity", (0,), TRANSFORMED),
    "transformations-images": Suite(_images, _image, "accuracy", (0,), TRANSFORMED),
    "channels": Suite(_channels, _llama, "perplexity"),
    "components": Suite(_narrower, _llama, "perplexity", (0,), COMPONENTS),
    "components-others": Suite(_narrower_others, _other(False), "perplexity", (0,), COMPONENTS),
    "components-images": Suite(_narrower_images, _image, "accuracy", (0,), COMPONENTS),
    "ranks": Suite(_ranks, _llama, "perplexity"),
    "resnets": Suite(_resnets, _resnet, "accuracy"),
    "zoo": Suite(_zoo, _member, "kl", (0,)),
}
"""Name of a benchmark → what it is."""
