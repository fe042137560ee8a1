"""Packages that only some work needs, and what installs them."""

from __future__ import annotations

from collections.abc import Mapping

EXTRAS: Mapping[str, str] = {
    "torch_geometric": "train",
    "sklearn": "train",
    "datasets": "lm",
    "transformers": "lm",
    "huggingface_hub": "lm",
    "PIL": "vision",
    "torchvision": "vision",
    "peft": "peft",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
}
"""Module → the extra of metaprune that brings it."""


def remedy(error: ImportError) -> str | None:
    """How to install what an import missed; None where no extra has it."""
    extra = EXTRAS.get((error.name or "").partition(".")[0])
    return extra and f"this needs {error.name}: pip install 'metaprune[{extra}]'"
