"""Patterns: what a pruning takes away, one file each, found by how they are written.

`base` says what a pattern is; `axes` holds what those share that cut axes (`channels`,
`equal_widths` with its `ties`, `blocks`), `weights` what those share that change weights (`masks`,
and with `factors` and `install` also `low_rank` and `masks_beside_low_rank`). A new one is one
file, registered with `@pattern`; `meta_device` says what can be planned without values.
"""

from metaprune.patterns.base import PATTERNS, Pattern, parse, pattern
from metaprune.patterns.blocks import Blocks
from metaprune.patterns.channels import Channels
from metaprune.patterns.equal_widths import EqualWidths
from metaprune.patterns.low_rank import LowRank
from metaprune.patterns.masks import Masks
from metaprune.patterns.masks_beside_low_rank import MasksBesideLowRank

__all__ = [
    "PATTERNS",
    "Blocks",
    "Channels",
    "EqualWidths",
    "LowRank",
    "Masks",
    "MasksBesideLowRank",
    "Pattern",
    "parse",
    "pattern",
]
