"""The streaming graph metanetwork: equivariant, size-agnostic, state on units and tensors only."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import nn

from graphs import Network
from graphs.calls.running import seeded
from metanet.advice import Transformation
from metanet.heads import LOGIT_HEADS, WEIGHT_HEADS
from metanet.layers import LAYERS
from metanet.layers.layer_stage import LayerStage
from metanet.reading.features import (
    TENSOR_FEATURES,
    UNIT_FEATURES,
    check_target,
    tensor_features,
    unit_features,
)
from metanet.reading.values import Reader, statistics
from metanet.tables.layout import Layout, build_layout, structure
from metanet.tables.matrices import MATRICES

REMEMBERED = 256
"""Layouts kept; the oldest goes first."""


class MetaNetwork(nn.Module):
    """Reads a network, says how to change its weights and where to cut.

    Law: for every axis that is not frozen, `meta(net.permute(axis, order))` is
    `meta(net)` with the units of that axis reordered; the same weights serve networks of any size
    and shape. At initialisation the values are the network's own, bit for bit, and all logits 0.

    Values are constants to the features and messages; gradients reach the metanetwork's
    parameters, and the values through the change itself.

    Args:
        hidden: width d of unit, axis and tensor states; a multiple of `heads`.
        layers: message layers between units (`layers.messages.MessageLayer`).
        heads: elementwise functions of the weights per layer, an even number.
        rounds: of the layer-level stage (`layers.layer_stage.LayerStage`).
        rank: of the change of each tensor (`heads.low_rank.LowRankChange`).
        weight_bound: eps; an entry w changes by at most eps * (|w| + sigma).
        logit_bound: all logits lie in [-logit_bound, logit_bound].
        tile: weight entries handled at once.
        checkpoint_above: in training, larger blocks are recomputed in the backward pass.
        seed: of the initial parameters; the global generator is left alone.
        layer: what a message layer is, by its name in `layers.LAYERS`.
        weights: the head that changes weights, by its name in `heads.WEIGHT_HEADS`.
        logits: the head that makes logits, by its name in `heads.LOGIT_HEADS`.

    Raises:
        ValueError: heads that do not divide the states, or a name that is not registered.

    Shapes: a Network with N units on X axes and T tensors -> a `Transformation`; memory is
    O(N d + T d + tile) at inference beside the new values.
    """

    def __init__(
        self,
        *,
        hidden: int = 32,
        layers: int = 3,
        heads: int = 4,
        rounds: int = 2,
        rank: int = 4,
        weight_bound: float = 0.1,
        logit_bound: float = 3.0,
        tile: int = 2**18,
        checkpoint_above: int = 2**17,
        seed: int = 0,
        layer: str = "messages",
        weights: str = "low-rank",
        logits: str = "mlp",
    ) -> None:
        super().__init__()
        if heads < 2 or heads % 2 or hidden % heads:
            raise ValueError(
                f"'heads' must be even and divide 'hidden' (got heads={heads}, hidden={hidden})"
            )
        self.config: dict[str, Any] = {
            "name": "streaming",
            "hidden": hidden,
            "layers": layers,
            "heads": heads,
            "rounds": rounds,
            "rank": rank,
            "weight_bound": weight_bound,
            "logit_bound": logit_bound,
            "tile": tile,
            "checkpoint_above": checkpoint_above,
            "seed": seed,
            "layer": layer,
            "weights": weights,
            "logits": logits,
        }
        make_layer, make_weights = LAYERS.find(layer), WEIGHT_HEADS.find(weights)
        make_logits = LOGIT_HEADS.find(logits)
        self.logit_bound = logit_bound
        self.tile = tile
        self._layouts: dict[Hashable, Layout] = {}
        with seeded(seed):
            self.unit_encoder = _mlp(UNIT_FEATURES, hidden)
            self.tensor_encoder = _mlp(TENSOR_FEATURES, hidden)
            self.layers = nn.ModuleList(
                make_layer(hidden=hidden, heads=heads, checkpoint_above=checkpoint_above)
                for _ in range(layers)
            )
            self.stage = LayerStage(hidden=hidden, rounds=rounds)
            self.context = nn.Linear(hidden, hidden)
            self.unit_norm, self.axis_norm, self.tensor_norm = (
                nn.LayerNorm(hidden) for _ in range(3)
            )
            self.unit_head, self.axis_head, self.tensor_head = (
                make_logits(hidden=hidden) for _ in range(3)
            )
            self.decoder = make_weights(
                hidden=hidden, rank=rank, bound=weight_bound, checkpoint_above=checkpoint_above
            )

    def layout(self, net: Network) -> Layout:
        """The index tables of `net`, remembered for every network of the same structure."""
        like = self.context.weight
        key = (structure(net), like.dtype, like.device)
        if key not in self._layouts:
            if len(self._layouts) >= REMEMBERED:
                self._layouts.pop(next(iter(self._layouts)))
            self._layouts[key] = build_layout(
                net, tile=self.tile, dtype=like.dtype, device=like.device
            )
        return self._layouts[key]

    def forward(
        self,
        net: Network,
        evidence: Mapping[str, torch.Tensor] | None = None,
        target: float | torch.Tensor = 1.0,
    ) -> Transformation:
        """Transform `net`.

        Args:
            net: the network; values of any floating dtype, on any device.
            evidence: axis name -> (size, 3): |sum w g|, Fisher information and sum |w g| of each
                unit; axes may be missing.
            target: share of MACs or of weights that stays, in (0, 1].

        Raises:
            ValueError: NaN or infinite weights, evidence of another shape, target out of range.
        """
        share, layout, like = check_target(target), self.layout(net), self.context.weight
        reader = Reader(net, layout, like, self.tile)
        unit_sums, tensor_sums = statistics(reader, layout)
        sigma = (tensor_sums[:, 2] / tensor_sums[:, 3]).sqrt().to(like)
        units = self.unit_encoder(unit_features(layout, unit_sums, evidence, share).to(like))
        tokens = self.tensor_encoder(tensor_features(layout, tensor_sums, share).to(like))
        for layer in self.layers:
            units, tokens = layer(units, tokens, layout, reader, sigma)
        axes, tokens = self.stage(units, tokens, layout)
        axes, tokens = self.axis_norm(axes), self.tensor_norm(tokens)
        units = self.unit_norm(units + self.context(axes)[layout.unit_axis])
        return Transformation(
            values=dict(self.decoder(units, tokens, net, layout, sigma)),
            **self._logits(units, axes, tokens, layout),
        )

    def _logits(
        self, units: torch.Tensor, axes: torch.Tensor, tokens: torch.Tensor, layout: Layout
    ) -> dict[str, dict[str, torch.Tensor]]:
        unit, axis, tensor = (
            self.logit_bound * torch.tanh(head(state)[:, 0])
            for head, state in (
                (self.unit_head, units),
                (self.axis_head, axes),
                (self.tensor_head, tokens),
            )
        )
        free = [name for name, cut in zip(layout.axes, layout.cuttable, strict=True) if cut]
        by_unit, by_axis = layout.by_axis(unit), dict(zip(layout.axes, axis.unbind(), strict=True))
        return {
            "unit_logits": {name: by_unit[name] for name in free},
            "axis_logits": {name: by_axis[name] for name in free},
            "tensor_logits": {
                m.name: logit
                for m, logit in zip(layout.matrices, tensor.unbind(), strict=False)
                if m.role in MATRICES
            },
        }


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    inner = 2 * outputs
    return nn.Sequential(nn.Linear(inputs, inner), nn.SiLU(), nn.Linear(inner, outputs))
