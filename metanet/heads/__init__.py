"""What a metanetwork says, decoded from its states.

A head is one registered class (`registry` has the protocols and finds heads by name): `low_rank`
changes weights, `mlp` makes budget logits. A head of your own is as good as these.
"""

from metanet.heads import low_rank, mlp
from metanet.heads.registry import LOGIT_HEADS, WEIGHT_HEADS, LogitHead, WeightHead

__all__ = ["LOGIT_HEADS", "WEIGHT_HEADS", "LogitHead", "WeightHead", "low_rank", "mlp"]
