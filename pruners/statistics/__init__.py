"""Calibration statistics: what a few batches say about the units and weights of a network."""

from pruners.statistics.evidence import unit_evidence
from pruners.statistics.running import forward, undisturbed

__all__ = ["forward", "undisturbed", "unit_evidence"]
