"""Graph metanetworks: a network in, changed weights and budget logits out, in one forward pass.

`streaming` is the one that advises here, `pna` the published one, `value` foresees what budgets do;
`advice` is what they say, `registry` finds them by name and `store` keeps them in files. `tables`
holds the structure of a network, `reading` what is told of it, `layers` and `heads` the parts
between, each one registered class. Those that advise need torch-geometric, which takes seconds to
import: they are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from metanet.advice import Transformation
from metanet.heads import LOGIT_HEADS, WEIGHT_HEADS
from metanet.layers import LAYERS
from metanet.registry import METANETWORKS
from metanet.store import build, load, save
from metanet.value import ValueNetwork

if TYPE_CHECKING:
    from metanet.pna import PNAMetaNetwork
    from metanet.streaming import MetaNetwork

_HOMES = {"MetaNetwork": "metanet.streaming", "PNAMetaNetwork": "metanet.pna"}

METANETWORKS.promise("streaming", "metanet.streaming", "MetaNetwork")
METANETWORKS.promise("pna", "metanet.pna", "PNAMetaNetwork")

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


def __getattr__(name: str) -> Any:
    """Import a metanetwork when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'metanet' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
