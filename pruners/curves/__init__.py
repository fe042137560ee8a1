"""Expected loss: what a tensor or an axis costs the predictions at every budget it may get.

`sides` measures what it is made of, moments of inputs and curvature at outputs; `masks` and `axes`
draw curves of it with what will prune in mind, a solver or a refit; `branches` says what whole
residual branches cost; `curve` is what they draw, and `spend` divides a budget over them.
"""

from pruners.curves.axes import AxisCurve, axis_curves, check_order
from pruners.curves.branches import BranchLosses, branch_losses
from pruners.curves.curve import Curve, Prediction
from pruners.curves.expected import ExpectedLoss
from pruners.curves.facts import FACTS, Facts, facts_of
from pruners.curves.masks import mask_curves
from pruners.curves.sides import Sides, measure_sides
from pruners.curves.spend import spend
from pruners.curves.trial import (
    FEWEST,
    Judge,
    Paired,
    damage_of,
    dropped_and_refitted,
    in_words,
    left_out,
    rounded,
)
from pruners.curves.value import SumOfLosses, Value

__all__ = [
    "FACTS",
    "FEWEST",
    "AxisCurve",
    "BranchLosses",
    "Curve",
    "ExpectedLoss",
    "Facts",
    "Judge",
    "Paired",
    "Prediction",
    "Sides",
    "SumOfLosses",
    "Value",
    "axis_curves",
    "branch_losses",
    "check_order",
    "damage_of",
    "dropped_and_refitted",
    "facts_of",
    "in_words",
    "left_out",
    "mask_curves",
    "measure_sides",
    "rounded",
    "spend",
]
