"""Meta-training: a metanetwork learns on a zoo what to keep of a network it has never seen."""

from training.meta.judge import Judgement, judge
from training.meta.loop import MetaConfig, MetaResult, meta_train
from training.meta.objectives import OBJECTIVES, objective
from training.meta.subjects import Task, tasks_of

__all__ = [
    "OBJECTIVES",
    "Judgement",
    "MetaConfig",
    "MetaResult",
    "Task",
    "judge",
    "meta_train",
    "objective",
    "tasks_of",
]
