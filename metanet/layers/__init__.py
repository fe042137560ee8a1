"""How states travel through a network.

`messages` passes them between units through the weights; a layer of your own is one registered
class (`registry`). `layer_stage` passes them between axes and tensors, `kernels` gives every kernel
size the same functions.
"""

from metanet.layers import messages
from metanet.layers.registry import LAYERS, Layer

__all__ = ["LAYERS", "Layer", "messages"]
