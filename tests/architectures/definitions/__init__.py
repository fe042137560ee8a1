"""Definitions of architectures, one field a file. Importing the package fills the register."""

from tests.architectures.definitions import (
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

__all__ = [
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
