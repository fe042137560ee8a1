"""Structured pruning: score units, select them, fade or remove them, repair the statistics."""

from pruners.structured.blocks import Drops, choose_blocks
from pruners.structured.compensation import Compensation, compensate_bias, input_means
from pruners.structured.masks import mask_values
from pruners.structured.recalibration import Recalibration, recalibrate_batch_norm
from pruners.structured.scores import base_scores, corrected, normalized, unit_scores
from pruners.structured.select import select

__all__ = [
    "Compensation",
    "Drops",
    "Recalibration",
    "base_scores",
    "choose_blocks",
    "compensate_bias",
    "corrected",
    "input_means",
    "mask_values",
    "normalized",
    "recalibrate_batch_norm",
    "select",
    "unit_scores",
]
