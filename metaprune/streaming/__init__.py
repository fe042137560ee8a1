"""Checkpoints that need not fit in memory, pruned block by block from disk to disk.

`checkpoint` reads and writes shards, `skeleton` is a model without weights, `chain` its blocks one
after the other, `states` what runs between them. `backward` is the curvature, `budget` and
`solving` decide, `run` is the whole of it, and `api` the door.
"""

from metaprune.streaming.api import stream

__all__ = ["stream"]
