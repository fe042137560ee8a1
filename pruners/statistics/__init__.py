"""Calibration statistics: what a few batches say about the units and weights of a network."""

from pruners.statistics.evidence import microbatches, unit_evidence
from pruners.statistics.imitation import Imitation
from pruners.statistics.inputs import input_statistics
from pruners.statistics.running import forward, undisturbed

__all__ = [
    "Imitation",
    "forward",
    "input_statistics",
    "microbatches",
    "undisturbed",
    "unit_evidence",
]
