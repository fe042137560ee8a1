"""Graph metanetworks: a network in, changed weights and budget logits out, in one forward pass.

`streaming` is the one that advises here, `pna` the published one, `value` foresees what budgets do;
`advice` is what they say,
`registry` finds them by name and `store` keeps them in files. `tables` holds the structure of a
network, `reading` what is told of it, `layers` and `heads` the parts between, each one registered
class.
"""

from metanet.advice import Transformation
from metanet.heads import LOGIT_HEADS, WEIGHT_HEADS
from metanet.layers import LAYERS
from metanet.pna import PNAMetaNetwork
from metanet.registry import METANETWORKS
from metanet.store import build, load, save
from metanet.streaming import MetaNetwork
from metanet.value import ValueNetwork

__all__ = [
    "LAYERS",
    "LOGIT_HEADS",
    "METANETWORKS",
    "WEIGHT_HEADS",
    "MetaNetwork",
    "PNAMetaNetwork",
    "Transformation",
    "ValueNetwork",
    "build",
    "load",
    "save",
]
