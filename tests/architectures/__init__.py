"""Architectures under test, by field. Importing the package fills the register."""

from tests.architectures import encoders, language, multimodal, seq2seq, speech, vision
from tests.architectures.registry import ARCHITECTURES, Architecture, available, build

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "available",
    "build",
    "encoders",
    "language",
    "multimodal",
    "seq2seq",
    "speech",
    "vision",
]
