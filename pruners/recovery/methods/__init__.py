"""Recovery methods in closed form, one a file.

`bias` and `refit` serve patterns that cut axes, `layer` and `order` those that change weights, and
`recalibrate` both.
"""

from pruners.recovery.methods.bias import Bias
from pruners.recovery.methods.layer import Layer
from pruners.recovery.methods.order import Order
from pruners.recovery.methods.recalibrate import Recalibrate
from pruners.recovery.methods.refit import RefitInOrder

__all__ = ["Bias", "Layer", "Order", "Recalibrate", "RefitInOrder"]
