"""Calibration: a few batches, and what they mean to a model. This is the door for users' data.

`door` takes whatever a user has and gives example inputs and a `Calibration` (`batches`).
`collecting` makes the list of batches, once; `reading` tells inputs from labels by the signature of
the forward; `losses` finds the loss that fits both; `checking` names what is empty or not finite.
"""

from __future__ import annotations

from metaprune.calibration.batches import Calibration
from metaprune.calibration.door import Given, given

__all__ = ["Calibration", "Given", "given"]
