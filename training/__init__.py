"""Everything that learns: networks from data, pruned networks again, metanetworks from networks.

`data` holds data sets, `networks` and `zoo` architectures and families to train, `sources` finds
networks by configuration. `fitting` is the loop that `recovery` and the zoo share, `meta` trains
metanetworks that advise, `triples` measures what budgets do, and `values` fits what foresees it.
`config` checks settings, `store` writes the tensors of a run.
"""

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
