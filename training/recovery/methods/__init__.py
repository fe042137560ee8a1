"""Recovery methods that train, one a file.

`finetune` learns from labels, `distil` from a dense teacher on the same data; `imitate` learns from
the teacher on the calibration alone.
"""

from training.recovery.methods.distil import Distil
from training.recovery.methods.finetune import Finetune
from training.recovery.methods.imitate import Imitate

__all__ = ["Distil", "Finetune", "Imitate"]
