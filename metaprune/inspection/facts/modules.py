"""What every module costs, as counted here and by torch."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from graphs import Network
from metaprune.inspection.facts.flops import macs_by_module
from metaprune.inspection.schema import Module


def modules(
    net: Network, model: nn.Module, by_torch: Mapping[str, int] | None
) -> dict[str, Module]:
    """Path → cost, for the modules that have one, in the order of the model.

    Args:
        net: the traced network.
        model: the traced module.
        by_torch: MACs of one example by module path, as torch's counter has them; None where it
            cannot count.
    """
    macs = macs_by_module(net)
    params: dict[str, int] = {}
    for name in net.source.parameters:
        path = name.rpartition(".")[0]
        params[path] = params.get(path, 0) + net.tensors[name].value.numel()
    order = {path: i for i, (path, _) in enumerate(model.named_modules(remove_duplicate=False))}
    paths = sorted(
        {*macs, *params, *(by_torch or {})}, key=lambda path: order.get(path, len(order))
    )
    kinds = {path: type(m).__name__ for path, m in model.named_modules(remove_duplicate=False)}
    return {
        path: Module(
            kinds.get(path, ""),
            macs.get(path, 0),
            params.get(path, 0),
            None if by_torch is None else by_torch.get(path, 0),
        )
        for path in paths
        if macs.get(path) or params.get(path) or (by_torch or {}).get(path)
    }
