"""Graph metanetworks: a network in, changed weights and budget logits out, in one forward pass."""

from metanet.advice import Transformation
from metanet.pna import PNAMetaNetwork
from metanet.store import METANETWORKS, build, load, save
from metanet.streaming import MetaNetwork

__all__ = [
    "METANETWORKS",
    "MetaNetwork",
    "PNAMetaNetwork",
    "Transformation",
    "build",
    "load",
    "save",
]
