"""Architectures under test, by field. Importing the package fills the register."""

from tests.architectures import (
    convnets,
    dense_prediction,
    encoders,
    generative,
    language,
    libraries,
    multimodal,
    others,
    seq2seq,
    sequences,
    speech,
    vision,
)
from tests.architectures.registry import ARCHITECTURES, Architecture, available, build

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "available",
    "build",
    "convnets",
    "dense_prediction",
    "encoders",
    "generative",
    "language",
    "libraries",
    "multimodal",
    "others",
    "seq2seq",
    "sequences",
    "speech",
    "vision",
]
