"""How long one forward pass takes, of the network and of the smallest one in reach."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from graphs import Network
from training.fitting.latency import compare_latency


def latency(
    net: Network, model: nn.Module, least: Mapping[str, int], repeats: int
) -> tuple[float, float]:
    """Milliseconds of one forward pass, of the smallest network and of the dense one, sorted.

    Args:
        net: the traced network.
        model: the traced module.
        least: fewest units of every axis that may be pruned.
        repeats: forward passes of each; the median counts.

    Raises:
        ValueError: the model is on the meta device.
    """
    if any(tensor.value.is_meta for tensor in net.tensors.values()):
        raise ValueError("latency is measured on weights, and this model is on the meta device")
    gone = {
        name: range(fewest, net.axes[name].size)
        for name, fewest in least.items()
        if fewest < net.axes[name].size
    }
    small = net.remove({name: torch.tensor(list(units)) for name, units in gone.items()})
    args, kwargs = net.source.example
    assert not (args and kwargs)
    models = {"dense": model, "smallest": small.to_model()}
    measured = compare_latency(models, kwargs or args, repeats=repeats)
    low, high = sorted(1e3 * one.median for one in measured.values())
    return low, high
