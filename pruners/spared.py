"""Units that channel pruning leaves alone; apart, so that nothing heavy comes with the name."""

from __future__ import annotations

SPARED = ("head feature",)
"""Kinds of units that channel pruning leaves alone: fast attention kernels, and the classes of most
transformers, want one head size for queries, keys and values. Whole heads are removed."""
