"""The law of training: what comes back trains as the model does, cut or not.

came back              in training mode it returns what the model returns, bit for bit
a third of the units removed
                       it runs in training mode, returns as many tensors of the same shapes, and
                       the same parameters get gradients; or it says why not
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs import Network
from graphs.build.compare import resized
from graphs.build.rebuild import rebuild
from graphs.calls.copying import working_copy
from graphs.calls.running import Inputs, forward, outputs, quiet, seeded
from metaprune.testing.checking import Checked, gap


def training_law(
    model: nn.Module, back: nn.Module, net: Network, inputs: Inputs
) -> tuple[Checked, str]:
    """Whether results train, and what they say where not.

    Args:
        model: that was traced; it is left as it was.
        back: from `net.to_model()`.
        net: the network.
        inputs: (args, kwargs) of the forward.
    """
    if any(tensor.value.is_meta for tensor in net.tensors.values()):
        return Checked(0.0, 0), "there are no weights"
    for given in (inputs, resized(inputs, net.program.batch)):
        expected = outputs(working_copy(model), given, training=True)
        if not isinstance(expected, Exception):
            break
    else:
        return Checked(0.0, 0), f"the model does not run in training mode: {_line(expected)}"
    found = outputs(working_copy(back), given, training=True)
    failures: tuple[str, ...] = ()
    by = float("inf") if isinstance(found, Exception) else gap(found, expected)
    if by:
        reason = f": {_line(found)}" if isinstance(found, Exception) else f" by {by:.3g}"
        failures += (f"in training mode what came back differs{reason}",)
    gone = {
        axis.name: list(range((axis.size - axis.minimum) // 3))
        for axis in net.axes.values()
        if axis.frozen is None
    }
    cut = rebuild(net.remove({name: units for name, units in gone.items() if units}))
    said = next((note for note in cut.notes if "training" in note), "")
    if not said:
        failures += tuple(_unlike(working_copy(model), cut.model, given))
    return Checked(by, 2, failures), said


def _unlike(dense: nn.Module, cut: nn.Module, inputs: Inputs) -> list[str]:
    """What tells the training of a cut module from that of the dense one."""
    expected, reached = _trained(dense, inputs)
    found, also = _trained(cut, inputs)
    if isinstance(found, Exception):
        return [f"with units removed it does not run in training mode: {_line(found)}"]
    if isinstance(expected, Exception):
        return []
    if expected != found:
        return [f"with units removed it returns {found} in training mode, not {expected}"]
    lost = sorted(reached - also)
    return [f"with units removed no gradient reaches {', '.join(lost[:3])}"] if lost else []


def _trained(model: nn.Module, inputs: Inputs) -> tuple[list[torch.Size] | Exception, set[str]]:
    """Shapes that a training step returns, and the parameters that it reaches."""
    args, kwargs = inputs
    with quiet(model, training=True), torch.enable_grad(), seeded():
        try:
            found: list[Any] = [
                leaf
                for leaf in pytree.tree_leaves(_plain(forward(model, args, kwargs)))
                if isinstance(leaf, torch.Tensor)
            ]
        except Exception as error:  # whatever a user's forward raises about shapes
            return error, set()
        summed = [leaf.abs().sum() for leaf in found if leaf.requires_grad]
        parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        if not summed:
            return [leaf.shape for leaf in found], set()
        total = torch.stack([one.double() for one in summed]).sum()
        reached = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    there = {name for name, g in zip(parameters, reached, strict=True) if g is not None}
    return [leaf.shape for leaf in found], there


def _plain(result: Any) -> Any:
    return dict(result) if hasattr(result, "items") else result


def _line(error: Any) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return str(lines[0])[:200]
