"""Masks that survive the training of others: their loops, their trainers, their adapters.

`optimizer` holds zeros in any loop, `trainer` in that of transformers, `adapters` in LoRA of PEFT.
None of them needs a `Result`: the zeros of a model that was opened from a folder are its masks.
"""

from metaprune.keeping.optimizer import keep_masks

__all__ = ["keep_masks"]
