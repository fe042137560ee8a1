"""What a metanetwork says about a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Transformation:
    """The output of a metanetwork for one network.

    At initialisation `values` are the network's own and every logit is zero.

    Args:
        values: tensor name -> transformed value, in the shape, dtype and device of the original;
            holds the floating tensors of role weight, bias, scale or embedding.
        unit_logits: axis name -> (size,), a bounded correction to the log of each unit's score;
            axes that are not frozen.
        axis_logits: axis name -> (), a bounded correction to the width budget of the axis;
            axes that are not frozen.
        tensor_logits: tensor name -> (), a bounded correction to the logit of the tensor's kept
            share; tensors of role weight or embedding.
    """

    values: dict[str, torch.Tensor]
    unit_logits: dict[str, torch.Tensor]
    axis_logits: dict[str, torch.Tensor]
    tensor_logits: dict[str, torch.Tensor]

    def corrections(self) -> dict[str, torch.Tensor]:
        """Axis name -> (size,): unit and axis logits together."""
        return {a: logits + self.axis_logits[a] for a, logits in self.unit_logits.items()}
