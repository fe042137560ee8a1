"""Root-mean-square norms after live units went: their scale by the energy that stays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from graphs.axes.dims import kept_positions
from graphs.calls.running import run, undisturbed

if TYPE_CHECKING:
    from graphs import Network
    from graphs.program.rescale import Rescale


def compensate_norms(
    net: Network, model: nn.Module, kept: Mapping[str, torch.Tensor], batches: Iterable[Any]
) -> dict[str, torch.Tensor]:
    r"""Scales of root-mean-square norms that keep the size of what the norm returns.

    Removing units takes their squares out of the mean. `Network.remove` lets the scale follow as if
    the removed units had been zero. Where they carried a share e of the energy Σ E[x²], the norm's
    result is too large by 1/√(1 − e) on average, which is taken back here:

        γ ← γ √(1 − e)

    Dead units have e = 0, and nothing changes; units as strong as the others cancel the rescale.

    Args:
        net: the dense network.
        model: the dense model, run in evaluation mode and left as it was.
        kept: axis name → kept unit indices.
        batches: calibration inputs of the model.

    Returns:
        Tensor name → scale, in its own dtype, to replace in `net` before units are removed. Norms
        whose module does not hold the scale itself are left out.
    """
    watched = {r.tensor: r for r in net.program.rescales if _is_cut(net, r, kept)}
    energy: dict[str, torch.Tensor] = {}
    hooks = []
    for name, rescale in watched.items():
        width = net.shape((rescale.dim,))[0]
        module = model.get_submodule(name.rpartition(".")[0])

        def watch(_: nn.Module, inputs: tuple[Any, ...], name: str = name, n: int = width) -> None:
            x = inputs[0] if inputs else None
            if isinstance(x, torch.Tensor) and x.shape[-1] == n:
                squares = x.detach().double().square().flatten(0, -2).sum(0)
                energy[name] = energy.get(name, torch.zeros_like(squares)) + squares

        hooks.append(module.register_forward_pre_hook(watch))
    try:
        with undisturbed(model), torch.no_grad():
            for batch in batches:
                run(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    values = {}
    for name, squares in energy.items():
        rescale = watched[name]
        positions = kept_positions(rescale.dim, kept, net.axes)
        assert positions is not None
        whole = float(squares.sum())
        stays = float(squares[positions.to(squares.device)].sum()) / whole if whole else 1.0
        old = net.tensors[name].value
        scaled = (old.double() + rescale.offset) * math.sqrt(stays) - rescale.offset
        values[name] = scaled.to(old.dtype)
    return values


def _is_cut(net: Network, rescale: Rescale, kept: Mapping[str, torch.Tensor]) -> bool:
    positions = kept_positions(rescale.dim, kept, net.axes)
    return positions is not None and positions.numel() < net.shape((rescale.dim,))[0]
