"""Data sets, the model zoo, fitting, finetuning and evaluation."""

from __future__ import annotations

from training import data, models, tasks, zoo
from training.evaluate import evaluate
from training.fit import FitConfig, FitResult, fit

__all__ = ["FitConfig", "FitResult", "data", "evaluate", "fit", "models", "tasks", "zoo"]
