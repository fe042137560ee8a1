"""Graph metanetworks: a network in, changed weights and budget logits out, in one forward pass."""

from metanet.pna import PNAMetaNetwork
from metanet.store import METANETWORKS, build, load, save
from metanet.streaming import MetaNetwork
from metanet.transformation import Transformation

__all__ = [
    "METANETWORKS",
    "MetaNetwork",
    "PNAMetaNetwork",
    "Transformation",
    "build",
    "load",
    "save",
]
