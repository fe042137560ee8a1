"""What makes up for what was pruned, in closed form: biases, refits, norms, layers in order."""

from pruners.recovery.compensation import Compensation, compensate_bias, input_means
from pruners.recovery.energy import compensate_norms
from pruners.recovery.in_order import refit_in_order
from pruners.recovery.recalibration import Recalibration, recalibrate_batch_norm
from pruners.recovery.refit import Refit, input_moments, refit

__all__ = [
    "Compensation",
    "Recalibration",
    "Refit",
    "compensate_bias",
    "compensate_norms",
    "input_means",
    "input_moments",
    "recalibrate_batch_norm",
    "refit",
    "refit_in_order",
]
