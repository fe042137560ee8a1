"""The published pruning metanetwork, as a baseline: explicit edge states, PNA aggregation in PyG.

Liu, Wang, Zhang 2025, "Meta Pruning via Graph Metanetworks", on the aggregators of Corso et al.
2020 (arXiv 2004.05718). For the edge from unit j to unit i, with LayerNorm without affine on x,

    message_ij = lin2(x_i) * lin1(x_j) * e_ij
    x_i       += Linear([mean, std, max, min] over j of message_ij)
    e_ij      += lin3(x_j) * lin4(x_i) * e_ij

in both directions with shared weights, half of the edge channels negated for the reverse one, and
at the end value' = value + ratio * MLP(state).

What differs from the published code: it gives every layer its own nodes and joins them by residual
identity edges, where here layers that share an axis share the axis' units, so those edges are
implied (ResNet-56 has 94,000 edges instead of 140,720); the last layer of each MLP starts at zero,
so that an untrained metanetwork is the identity; and there is one node column for each of scale,
bias, running mean and running variance, the mean over the tensors that meet in the unit.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import MessagePassing

from graphs import Network
from graphs.calls.running import seeded
from metanet.advice import Transformation
from metanet.reading.features import check_target
from metanet.tables.edges import EdgeList, list_edges
from metanet.tables.layout import Layout, build_layout, structure
from metanet.tables.matrices import CHANGED, MATRICES, Matrix, slots

COLUMNS = ("scale", "bias", "running_mean", "running_var")


class PNALayer(MessagePassing):
    """One layer of this module's equation in one direction.

    Shapes: x (N, d), edge_index (2, E), edges (E, d) -> changes (N, d) and (E, d).
    """

    def __init__(self, hidden: int) -> None:
        super().__init__(aggr=["mean", "std", "max", "min"])
        self.source, self.target, self.edge_source, self.edge_target = (
            nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU()) for _ in range(4)
        )
        self.combine = nn.Linear(4 * hidden, hidden)

    def forward(
        self, x: torch.Tensor, edge_index: torch.Tensor, edges: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, d), (2, E), (E, d) -> what to add to the nodes and to the edges."""
        received = self.propagate(edge_index, x=self.source(x), z=self.target(x), edges=edges)
        source, target = edge_index
        change = self.edge_source(x)[source] * self.edge_target(x)[target] * edges
        return self.combine(received), change

    def message(self, x_j: torch.Tensor, z_i: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """Messages along all edges, (E, d)."""
        return z_i * x_j * edges


class PNAMetaNetwork(nn.Module):
    """The published metanetwork on a `graphs.Network`; logits are zero, evidence is not used.

    Args:
        hidden: width d of node and edge states.
        layers: number of layers.
        ratio: of the change that is added to the values.
        kernel: side of the square that kernels are padded to; larger ones are refused.
        max_edges: networks with more weight entries than this are refused.
        seed: of the initial parameters; the global generator is left alone.

    Shapes: a Network with N units and E pairs of units joined by a weight -> a `Transformation`;
    memory is O((N + E) d) for each layer in training.
    """

    def __init__(
        self,
        *,
        hidden: int = 64,
        layers: int = 8,
        ratio: float = 0.01,
        kernel: int = 3,
        max_edges: int = 4_000_000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "name": "pna",
            "hidden": hidden,
            "layers": layers,
            "ratio": ratio,
            "kernel": kernel,
            "max_edges": max_edges,
            "seed": seed,
        }
        self.ratio, self.kernel, self.max_edges = ratio, kernel, max_edges
        self._edges: dict[Hashable, tuple[Layout, EdgeList]] = {}
        with seeded(seed):
            self.node_encoder = nn.Linear(len(COLUMNS), hidden)
            self.edge_encoder = nn.Linear(kernel**2, hidden)
            self.layers = nn.ModuleList(PNALayer(hidden) for _ in range(layers))
            self.node_decoder = _decoder(hidden, len(COLUMNS))
            self.edge_decoder = _decoder(hidden, kernel**2)

    def forward(
        self,
        net: Network,
        evidence: Mapping[str, torch.Tensor] | None = None,
        target: float | torch.Tensor = 1.0,
    ) -> Transformation:
        """Transform the values of `net`.

        Args:
            net: the network.
            evidence: not used; there for the common interface.
            target: share that stays, in (0, 1]; not used.

        Raises:
            ValueError: a kernel is too large, or there are too many edges.
        """
        check_target(target)
        layout, edges = self._listed(net)
        like = self.node_encoder.weight
        table = edges.read(net, self.kernel, like)
        nodes, attributes = self._states(_columns(net, layout, like), table[edges.pair], edges)
        change = torch.zeros_like(table).index_add(
            0, edges.pair, self.ratio * self.edge_decoder(attributes)
        )
        shifts = edges.write(change / edges.copies[:, None])
        shifts.update(_vector_shifts(net, layout, self.ratio * self.node_decoder(nodes)))
        values = {}
        for m in layout.matrices:
            if m.role in CHANGED:
                old = net.tensors[m.name].value
                wide = torch.promote_types(old.dtype, like.dtype)
                shift = shifts[m.name].to(old.device, wide)
                values[m.name] = (old.to(wide) + shift).to(old.dtype)
        return Transformation(values=values, **_neutral(layout, like))

    def _states(
        self, columns: torch.Tensor, entries: torch.Tensor, edges: EdgeList
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Columns (N + 1, 4) and entries (E, kernel^2) -> states (N + 1, d) and (E, d)."""
        x, e = self.node_encoder(columns), self.edge_encoder(entries)
        reverse = torch.ones_like(e[:1])
        reverse[:, reverse.shape[1] // 2 :] = -1
        for layer in self.layers:
            normed = F.layer_norm(x, x.shape[1:])
            forward, forward_edges = layer(normed, edges.index, e)
            backward, backward_edges = layer(normed, edges.index.flip(0), reverse * e)
            x = x + forward + backward
            e = e + forward_edges + reverse * backward_edges
        return x, e

    def _listed(self, net: Network) -> tuple[Layout, EdgeList]:
        """The edges of `net`, remembered for the last structure seen: they are many."""
        like = self.node_encoder.weight
        key = (structure(net), like.device)
        if key not in self._edges:
            layout = build_layout(net, tile=2**20, dtype=like.dtype, device=like.device)
            edges = list_edges(net, layout, kernel=self.kernel, limit=self.max_edges)
            self._edges = {key: (layout, edges)}
        return self._edges[key]


def _decoder(hidden: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    norm = nn.LayerNorm(hidden, elementwise_affine=False)
    return nn.Sequential(norm, nn.Linear(hidden, hidden), nn.SiLU(), last)


def _columns(net: Network, layout: Layout, like: torch.Tensor) -> torch.Tensor:
    """Mean of the vectors of each role that meet in each unit, (N + 1, 4)."""
    sums = like.new_zeros((layout.units + 1) * len(COLUMNS), 2)
    for m in layout.matrices:
        if m.role in COLUMNS:
            value = m.read(net.tensors[m.name].value.to(like.device, like.dtype)).mean((0, 2))
            table = _row_slots(net, layout, m)
            place = table * len(COLUMNS) + COLUMNS.index(m.role)
            both = torch.stack([value, torch.ones_like(value)], dim=1)
            repeated = both[:, None].expand(*place.shape, 2)
            sums = sums.index_add(0, place.reshape(-1), repeated.reshape(-1, 2))
    total, count = sums.view(-1, len(COLUMNS), 2).unbind(-1)
    out = total / count.clamp(min=1)
    return torch.cat([out[:-1], torch.zeros_like(out[:1])])


def _vector_shifts(net: Network, layout: Layout, change: torch.Tensor) -> dict[str, torch.Tensor]:
    """Change of every bias and scale from the change of the columns, (N + 1, 4)."""
    out = {}
    for m in layout.matrices:
        if m.role in COLUMNS and m.role in CHANGED:
            rows = change[_row_slots(net, layout, m), COLUMNS.index(m.role)].sum(1)
            out[m.name] = m.write(rows[None, :, None].expand(m.kernel, m.rows, m.cols))
    return out


def _row_slots(net: Network, layout: Layout, m: Matrix) -> torch.Tensor:
    table = slots(m.row, net.axes, layout.offsets(), layout.units)
    return table.expand(m.rows, -1).to(layout.unit_axis.device)


def _neutral(layout: Layout, like: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
    """Logits of a metanetwork without budget heads."""
    free = [
        (name, size)
        for name, size, cut in zip(layout.axes, layout.sizes, layout.cuttable, strict=True)
        if cut
    ]
    return {
        "unit_logits": {name: like.new_zeros(size) for name, size in free},
        "axis_logits": {name: like.new_zeros(()) for name, _ in free},
        "tensor_logits": {
            m.name: like.new_zeros(()) for m in layout.matrices if m.role in MATRICES
        },
    }
