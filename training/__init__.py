"""Data sets, the model zoo, fitting, finetuning and evaluation."""

from __future__ import annotations

from training import data, models, tasks, zoo
from training.evaluate import evaluate
from training.finetune import FinetuneConfig, finetune
from training.fit import fit
from training.latency import compare_latency
from training.settings import FitConfig, FitResult

__all__ = [
    "FinetuneConfig",
    "FitConfig",
    "FitResult",
    "compare_latency",
    "data",
    "evaluate",
    "finetune",
    "fit",
    "models",
    "tasks",
    "zoo",
]
