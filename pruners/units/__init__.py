"""Units of axes: score them, select them, fade them out, drop whole branches."""

from pruners.units.branches import Damage, Drops, choose_blocks, imitated
from pruners.units.fade import mask_values
from pruners.units.scores import base_scores, corrected, normalized, unit_scores
from pruners.units.second_order import second_order_scores
from pruners.units.select import select

__all__ = [
    "Damage",
    "Drops",
    "base_scores",
    "choose_blocks",
    "corrected",
    "imitated",
    "mask_values",
    "normalized",
    "second_order_scores",
    "select",
    "unit_scores",
]
