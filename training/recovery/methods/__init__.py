"""Recovery methods that train, one a file: `finetune` on labels, `distil` on a dense teacher."""

from training.recovery.methods.distil import Distil
from training.recovery.methods.finetune import Finetune

__all__ = ["Distil", "Finetune"]
