"""Recovery: what makes up for what was pruned, in closed form.

`base` says what a recovery method is, and `methods` holds one a file, chosen by name. The modules
of this room compute what they do: biases that take over the mean of what went, least-squares refits
of the weights that read it, layer by layer or in order, and the scales and statistics of norms.
"""

from pruners.recovery.base import RECOVERIES, Pruning, Recovery, recovery
from pruners.recovery.compensation import Compensation, compensate_bias, input_means
from pruners.recovery.norm_scales import compensate_norms
from pruners.recovery.recalibration import Recalibration, recalibrate_batch_norm
from pruners.recovery.refit import Refit, input_moments, refit
from pruners.recovery.refit_in_order import refit_in_order

__all__ = [
    "RECOVERIES",
    "Compensation",
    "Pruning",
    "Recalibration",
    "Recovery",
    "Refit",
    "compensate_bias",
    "compensate_norms",
    "input_means",
    "input_moments",
    "recalibrate_batch_norm",
    "recovery",
    "refit",
    "refit_in_order",
]
