"""Meta-training: a metanetwork learns on a zoo what to keep of a network it has never seen.

`subjects` are the trained networks that it learns on, `objectives` what it is trained for (each one
registered function), `loop` the training and `judge` the figure it is chosen by. `soft` gives hard
decisions a gradient.
"""

from training.meta.judge import Comparison, Judgement, compare, judge
from training.meta.loop import MetaConfig, MetaResult, meta_train
from training.meta.objectives import OBJECTIVES, objective
from training.meta.subjects import Subject, subjects_of

__all__ = [
    "OBJECTIVES",
    "Comparison",
    "Judgement",
    "MetaConfig",
    "MetaResult",
    "Subject",
    "compare",
    "judge",
    "meta_train",
    "objective",
    "subjects_of",
]
