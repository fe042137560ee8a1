"""The families that are shipped."""

from __future__ import annotations

IMAGES = ("dense", "mlp", "plain", "residual", "separable", "vit")
TEXT = ("gpt-neox", "gpt2", "llama", "qwen3")
