"""Structured pruning: score units, select them, fade or remove them, repair the statistics."""

from pruners.structured.blocks import Drops, choose_blocks
from pruners.structured.compensation import Compensation, compensate_bias, input_means
from pruners.structured.energy import compensate_norms
from pruners.structured.in_order import refit_in_order
from pruners.structured.masks import mask_values
from pruners.structured.recalibration import Recalibration, recalibrate_batch_norm
from pruners.structured.refit import Refit, input_moments, refit
from pruners.structured.scores import base_scores, corrected, normalized, unit_scores
from pruners.structured.second_order import second_order_scores
from pruners.structured.select import select

__all__ = [
    "Compensation",
    "Drops",
    "Recalibration",
    "Refit",
    "base_scores",
    "choose_blocks",
    "compensate_bias",
    "compensate_norms",
    "corrected",
    "input_means",
    "input_moments",
    "mask_values",
    "normalized",
    "recalibrate_batch_norm",
    "refit",
    "refit_in_order",
    "second_order_scores",
    "select",
    "unit_scores",
]
