"""Recovery methods that train, one a file.

`finetune` learns from labels, `distil` from a dense teacher on the same data; `imitate` learns from
the teacher on the calibration alone, `imitate_blocks` from what its blocks hand on.
"""

from training.recovery.methods.distil import Distil
from training.recovery.methods.finetune import Finetune
from training.recovery.methods.imitate import Imitate
from training.recovery.methods.imitate_blocks import ImitateBlocks

__all__ = ["Distil", "Finetune", "Imitate", "ImitateBlocks"]
