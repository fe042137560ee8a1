"""Hard decisions with a gradient: which units stay, as a differentiable mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from graphs import Network
from graphs.cost import count_macs
from pruners.units import base_scores, corrected, select
from training.data.core import Data
from training.data.split import Batch

TEMPERATURE = 0.3
"""Width of the straight-through band, in standard deviations of the log scores."""


def decided_masks(
    net: Network,
    corrections: Mapping[str, Tensor] | None,
    share: float,
    values: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Masks of a selection to a share of the MACs, with a straight-through gradient.

    Forward, a mask is 1 for the units that `pruners.units.select` keeps and 0 for the others.
    Backward, it is σ((s - t) / τ) of the log score s and the threshold t. The threshold follows the
    scores so that the cost stays what it is: dt = Σ c σ' ds / Σ c σ', c the MACs of a unit.
    Straight-through hard masks train better than soft ones (Bengio et al. 2013, arXiv 1308.3432).

    Args:
        net: the network.
        corrections: axis name → what is added to the log scores; None for the base rule.
        share: of the MACs that stays, in (0, 1).
        values: tensor name → value to score instead of the network's own.

    Returns:
        Axis name → mask (size,) of zeros and ones.
    """
    scores = base_scores(net, values)
    if corrections is not None:
        scores = corrected(scores, corrections)
    kept = select(net, {a: s.detach() for a, s in scores.items()}, {"macs": f"{100 * share}%"})
    hard = {a: torch.zeros_like(s).index_fill_(0, kept[a], 1.0) for a, s in scores.items()}
    logs = {a: s.clamp_min(1e-12).log() for a, s in scores.items()}
    if not any(s.requires_grad for s in scores.values()):
        return {a: m.detach() for a, m in hard.items()}
    flat, keep = torch.cat(list(logs.values())), torch.cat(list(hard.values())).detach()
    dense = count_macs(net)
    costs = torch.cat(
        [
            torch.full_like(s, dense - count_macs(net, {a: len(s) - 1})).detach()
            for a, s in scores.items()
        ]
    )
    band = TEMPERATURE * flat.detach().std().clamp_min(1e-3)
    level = _threshold(flat.detach(), keep)
    slope = torch.sigmoid((flat.detach() - level) / band)
    weight = costs * slope * (1 - slope)
    follow = (weight / weight.sum().clamp_min(1e-12) * flat).sum()
    soft = torch.sigmoid((flat - (level + follow - follow.detach())) / band)
    straight = keep + soft - soft.detach()
    return dict(zip(logs, straight.split([len(s) for s in logs.values()]), strict=True))


def _threshold(logs: Tensor, keep: Tensor) -> Tensor:
    """The level that parts kept from removed units best: between the two where they do not mix."""
    gone = logs[keep == 0]
    if gone.numel() == 0:
        return logs.min()
    return (torch.quantile(gone, 0.95) + torch.quantile(logs[keep == 1], 0.05)) / 2


class BatchStatistics(TorchFunctionMode):
    """Batch norms use the statistics of the batch and leave the running ones alone.

    What a pruned network computes after recalibration, without recalibrating.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Make the call; of `torch.nn.functional.batch_norm`, without running statistics."""
        given = dict(kwargs or {})
        if function is F.batch_norm:
            names = ("input", "running_mean", "running_var", "weight", "bias", "training")
            given |= dict(zip((*names, "momentum", "eps"), args, strict=False))
            given |= {"running_mean": None, "running_var": None, "training": True}
            args = ()
        return function(*args, **given)


def outputs(model: nn.Module, values: Mapping[str, Tensor], data: Data, batch: Batch) -> Tensor:
    """Return the logits of a model with other values, under batch statistics."""

    class _Call(nn.Module):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return functional_call(model, dict(values), args, kwargs)

    with BatchStatistics():
        return data.task.forward(_Call(), batch)


def divergence(logits: Tensor, dense: Tensor) -> Tensor:
    """KL(dense ‖ pruned) in nats, a mean over examples (and positions); classes last."""
    return F.kl_div(
        logits.flatten(0, -2).log_softmax(-1),
        dense.flatten(0, -2).log_softmax(-1),
        reduction="batchmean",
        log_target=True,
    )
