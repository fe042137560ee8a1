"""Calibration statistics: what a few batches say about the units and weights of a network."""

from pruners.statistics.collected import Statistics
from pruners.statistics.evidence import microbatches, unit_evidence
from pruners.statistics.imitation import Imitation
from pruners.statistics.inputs import both_sides, collect, input_statistics
from pruners.statistics.likelihood import Likelihood, NoCurvatureError
from pruners.statistics.moments import STATISTICS, Moments
from pruners.statistics.padding import without_padding

__all__ = [
    "STATISTICS",
    "Imitation",
    "Likelihood",
    "Moments",
    "NoCurvatureError",
    "Statistics",
    "both_sides",
    "collect",
    "input_statistics",
    "microbatches",
    "unit_evidence",
    "without_padding",
]
