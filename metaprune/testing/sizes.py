"""The law of sizes: what was pruned is right for every size of inputs that it takes.

A third of the units of the axes whose removal is zeroing are dead and removed. Inputs of other
sizes (examples, tokens, pixels) then give what the dense model with dead units gives, or an error.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs import Network
from graphs.build.compare import one_product_more, other_sizes
from graphs.build.rebuild import rebuild
from graphs.calls.running import Inputs, outputs
from metaprune.testing.alterations import kill, lively
from metaprune.testing.checking import Checked, gap


def sizes_law(net: Network, inputs: Inputs, tolerance: float) -> Checked:
    """Whether a cut module computes what the dense one does on inputs of sizes not traced.

    Args:
        net: the network.
        inputs: (args, kwargs) of the forward.
        tolerance: largest difference of an output; at least what one more rounding costs in the
            dtype of the weights.
    """
    if any(tensor.value.is_meta for tensor in net.tensors.values()):
        return Checked(0.0, 0)
    dead = lively(net, torch.Generator().manual_seed(0))
    gone: dict[str, list[int]] = {}
    for axis in net.axes.values():
        if axis.frozen is None and axis.exactness == "exact":
            gone[axis.name] = list(range((axis.size - axis.minimum) // 3))
            dead = kill(dead, axis.name, torch.tensor(gone[axis.name]))
    small = dead.remove({name: units for name, units in gone.items() if units})
    dense, cut = dead.to_model(), rebuild(small).model
    allowed = max(tolerance, one_product_more(_dtype(dense)))
    worst, count, failures = 0.0, 0, []
    for _, given in other_sizes(inputs, net.program.batch):
        expected = outputs(dense, given)
        found = outputs(cut, given)
        if isinstance(expected, Exception) or isinstance(found, Exception):
            continue
        by = gap(expected, found)
        worst, count = max(worst, by), count + 1
        if by > allowed:
            failures.append(f"on inputs of {_shapes(given)} it differs by {by:.3g}")
    return Checked(worst, count, tuple(failures))


def _dtype(model: nn.Module) -> torch.dtype:
    """The floating dtype of a module's weights."""
    floats = (t.dtype for t in model.parameters() if t.is_floating_point())
    return next(floats, torch.get_default_dtype())


def _shapes(inputs: Inputs) -> str:
    """Shapes of all tensors in inputs, in words."""
    tensors = [v for v in pytree.tree_leaves(inputs) if isinstance(v, torch.Tensor)]
    return " and ".join(str(tuple(tensor.shape)) for tensor in tensors)
