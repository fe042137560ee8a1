"""The layer-level stage: axes and tensors as nodes of a small heterogeneous graph."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.data import HeteroData
from torch_geometric.nn import HeteroConv, SAGEConv

from metanet.tables.layout import Layout

RELATIONS = ("produces", "consumes")


def layer_graph(layout: Layout, axes: torch.Tensor, tensors: torch.Tensor) -> HeteroData:
    """The layer-level graph: a link wherever a tensor produces or consumes an axis, both ways."""
    data = HeteroData()
    data["axis"].x, data["tensor"].x = axes, tensors
    for relation in RELATIONS:
        links = layout.incidence[relation]
        data["tensor", relation, "axis"].edge_index = links
        data["axis", f"{relation}_by", "tensor"].edge_index = links.flip(0)
    return data


class LayerStage(nn.Module):
    """Rounds of GraphSAGE (Hamilton et al. 2017, arXiv 1706.02216) on the layer-level graph.

    An axis starts from the mean and maximum of its units, a tensor from its token. Each round
    also tells every node the mean of all axes and of all tensors, because a budget is a comparison
    with the whole network.

    Args:
        hidden: width d.
        rounds: of message passing.

    Shapes: units (N, d), tokens (T, d) -> axes (X, d), tokens (T, d).
    """

    def __init__(self, *, hidden: int, rounds: int = 2) -> None:
        super().__init__()
        self.pool = nn.Linear(2 * hidden, hidden)
        self.convs = nn.ModuleList(self._conv(hidden) for _ in range(rounds))
        self.everywhere = nn.ModuleList(nn.Linear(2 * hidden, 2 * hidden) for _ in range(rounds))
        self.norms = nn.ModuleList(
            nn.ModuleDict({node: nn.LayerNorm(hidden) for node in ("axis", "tensor")})
            for _ in range(rounds)
        )

    @staticmethod
    def _conv(hidden: int) -> HeteroConv:
        convs = {}
        for relation in RELATIONS:
            convs["tensor", relation, "axis"] = SAGEConv((hidden, hidden), hidden)
            convs["axis", f"{relation}_by", "tensor"] = SAGEConv((hidden, hidden), hidden)
        return HeteroConv(convs, aggr="sum")

    def forward(
        self, units: torch.Tensor, tokens: torch.Tensor, layout: Layout
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Units (N, d), tokens (T, d) -> axes (X, d), tokens (T, d)."""
        data = layer_graph(layout, self.pool(_pooled(units, layout)), tokens)
        state, links = dict(data.x_dict), data.edge_index_dict
        for conv, everywhere, norms in zip(self.convs, self.everywhere, self.norms, strict=True):
            normed = {node: norms[node](x) for node, x in state.items()}
            said = conv(normed, links)
            mean = torch.cat([_mean(normed["axis"]), _mean(normed["tensor"])])
            shared = dict(zip(("axis", "tensor"), everywhere(mean).chunk(2), strict=True))
            state = {node: x + F.silu(said[node] + shared[node]) for node, x in state.items()}
        return state["axis"], state["tensor"]


def _pooled(units: torch.Tensor, layout: Layout) -> torch.Tensor:
    """(N, d) -> (X, 2 d): mean and maximum over the units of each axis."""
    pools = [torch.cat([part.mean(0), part.amax(0)]) for part in units.split(layout.sizes)]
    return torch.stack(pools) if pools else units.new_zeros(0, 2 * units.shape[1])


def _mean(x: torch.Tensor) -> torch.Tensor:
    """(n, d) -> (d,); zeros without nodes."""
    return x.sum(0) / max(1, len(x))
