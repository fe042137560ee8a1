"""Data sets, the model zoo, fitting, finetuning and evaluation."""

from __future__ import annotations

from training import data, sources, zoo
from training.fitting.evaluate import evaluate
from training.fitting.fit import fit
from training.fitting.latency import compare_latency
from training.fitting.settings import FitConfig, FitResult
from training.recovery.finetune import FinetuneConfig, finetune

__all__ = [
    "FinetuneConfig",
    "FitConfig",
    "FitResult",
    "compare_latency",
    "data",
    "evaluate",
    "finetune",
    "fit",
    "sources",
    "zoo",
]
