"""The logit head: a multilayer perceptron on one state, logit = v · silu(W h + b) + c."""

from __future__ import annotations

from torch import nn

from metanet.heads.registry import LOGIT_HEADS


@LOGIT_HEADS.register("mlp")
class Logits(nn.Sequential):
    """The head of this module's equation; v and c start at zero.

    Args:
        hidden: width d of the states and of the layer between.

    Shapes: (n, d) -> (n, 1).
    """

    def __init__(self, *, hidden: int) -> None:
        super().__init__(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1))
        for parameter in self[-1].parameters():
            nn.init.zeros_(parameter)
