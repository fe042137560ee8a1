"""A network as a PyG graph or a networkx graph, at the level of neurons or of layers.

Neuron level: every axis is a node type with one node a unit; every tensor is a relation between the
positions of its producing and of its consuming dimensions, whose nodes are linked to the units that
make them up. The entries of a tensor are edge features (a k×k kernel is a k²-vector on its edge),
those of a vector are node features. An edge exists because the architecture has it, zero or not.

    from_pyg(to_pyg(net, "neuron"), like=net) == net        bit for bit

Layer level: axes and tensors are nodes, an edge says that a tensor runs along an axis.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

import networkx
import torch

from graphs.axes.dims import atoms, unit_index
from graphs.relate.structure import Structure, Tensor
from graphs.tools.arguments import said

# PyG takes seconds to import, and a networkx graph does without.
if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

S = TypeVar("S", bound=Structure)

LEVELS = ("neuron", "layer")


def to_pyg(net: Structure, level: str = "neuron") -> HeteroData:
    """The network as a heterogeneous PyG graph.

    Args:
        net: the network.
        level: "neuron" or "layer".

    Returns:
        Neuron level: node types are axis names (`num_nodes` units) and, for each tensor, its rows
        `"<tensor>:rows"` and columns `"<tensor>:cols"`; the relation (rows, tensor, cols) has
        `edge_index` (2, rows·cols) and `edge_attr` (rows·cols, entries); the relation
        (rows or cols, "of", axis) links positions to units. Tensors of one dimension have their
        values as `x` (rows, 1) of their rows. Layer level: node types `axis` (`size`, `frozen`) and
        `tensor` (`numel`), relation (tensor, "along", axis) with `dim` and `produces`.

    Raises:
        ValueError: another level.
    """
    if level == "neuron":
        return _neurons(net)
    if level == "layer":
        return _layers(net)
    raise ValueError(f"level must be one of {', '.join(LEVELS)} (got {level!r})")


def _sides(tensor: Tensor) -> tuple[int | None, int | None]:
    """Index of the dimension of rows and of columns; the others are positions of a kernel."""
    carrying = [i for i, dim in enumerate(tensor.dims) if atoms(dim)]
    rows = next((i for i in carrying if tensor.produces[i]), carrying[0] if carrying else None)
    cols = next((i for i in carrying if i != rows), None)
    return rows, cols


def _layout(tensor: Tensor) -> tuple[tuple[int, ...], int, int]:
    """Order of dimensions (rows, columns, the rest), number of rows and of columns."""
    rows, cols = _sides(tensor)
    first = [i for i in (rows, cols) if i is not None]
    rest = [i for i in range(tensor.value.dim()) if i not in first]
    shape = tensor.value.shape
    return (
        (*first, *rest),
        1 if rows is None else shape[rows],
        1 if cols is None else shape[cols],
    )


def _neurons(net: Structure) -> HeteroData:
    from torch_geometric.data import HeteroData

    data = HeteroData()
    for axis in net.axes.values():
        data[axis.name].num_nodes = axis.size
    for name, tensor in net.tensors.items():
        order, n, m = _layout(tensor)
        entries = tensor.value.permute(order).reshape(n * m, -1).clone()
        rows, cols = f"{name}:rows", f"{name}:cols"
        data[rows].num_nodes = n
        _link(data, net, tensor, rows, _sides(tensor)[0])
        if _sides(tensor)[1] is None:
            data[rows].x = entries
            continue
        data[cols].num_nodes = m
        _link(data, net, tensor, cols, _sides(tensor)[1])
        grid = torch.cartesian_prod(torch.arange(n), torch.arange(m)).T
        data[rows, name, cols].edge_index = grid.contiguous()
        data[rows, name, cols].edge_attr = entries
    return data


def _link(data: HeteroData, net: Structure, tensor: Tensor, nodes: str, side: int | None) -> None:
    """Edges from the positions along a dimension to the units they belong to."""
    if side is None:
        return
    for axis in atoms(tensor.dims[side]):
        units = unit_index(tensor.dims[side], axis, net.axes)
        at = (units >= 0).nonzero().flatten()
        data[nodes, "of", axis].edge_index = torch.stack([at, units[at]])


def from_pyg(data: HeteroData, like: S) -> S:
    """The network whose neuron-level graph is `data`.

    Args:
        data: from `to_pyg(net, "neuron")`, with any edge and node features changed; the order of
            its edges does not matter.
        like: a network of the same structure.

    Raises:
        ValueError: an edge or node feature is missing, repeated, or of another shape; or it is
            another kind of graph.
    """
    from torch_geometric.data import HeteroData

    if not isinstance(data, HeteroData) or not isinstance(like, Structure):
        raise ValueError(
            'expected the graph of to_pyg(net, "neuron") and a network like it (got '
            f"{said(data)} and {said(like)})"
        )
    values = {}
    for name, tensor in like.tensors.items():
        order, n, m = _layout(tensor)
        rows, cols = f"{name}:rows", f"{name}:cols"
        if rows not in data.node_types:
            raise ValueError(f"{name} is not in the graph; expected that of to_pyg(net, 'neuron')")
        width = tensor.value.numel() // max(1, n * m)
        if _sides(tensor)[1] is None:
            entries = _feature(data[rows], "x", name)
        else:
            store = data[rows, name, cols]
            first, second = _feature(store, "edge_index", name)
            place = first * m + second
            if not torch.equal(place.sort().values, torch.arange(n * m)):
                raise ValueError(f"{name}: expected each of its {n * m} edges once")
            given = _feature(store, "edge_attr", name)
            entries = torch.empty_like(given)
            entries[place] = given
        if tuple(entries.shape) != (n * m, width):
            raise ValueError(
                f"{name}: expected features of shape {(n * m, width)} (got {tuple(entries.shape)})"
            )
        moved = [tensor.value.shape[i] for i in order]
        back = sorted(range(len(order)), key=order.__getitem__)
        values[name] = entries.reshape(moved).permute(back).contiguous().to(tensor.value.dtype)
    return like.replace(values)


def _feature(store: Any, name: str, tensor: str) -> torch.Tensor:
    if name not in store:
        raise ValueError(f"{tensor}: its {name} is missing in the graph")
    found: torch.Tensor = store[name]
    return found


def _layers(net: Structure) -> HeteroData:
    from torch_geometric.data import HeteroData

    data = HeteroData()
    axis_id = {name: i for i, name in enumerate(net.axes)}
    data["axis"].size = torch.tensor([a.size for a in net.axes.values()])
    data["axis"].frozen = torch.tensor([a.frozen is not None for a in net.axes.values()])
    data["axis"].num_nodes = len(net.axes)
    data["tensor"].numel = torch.tensor([t.value.numel() for t in net.tensors.values()])
    data["tensor"].num_nodes = len(net.tensors)
    edges = [
        (t, axis_id[axis], i, tensor.produces[i])
        for t, tensor in enumerate(net.tensors.values())
        for i, dim in enumerate(tensor.dims)
        for axis in atoms(dim)
    ]
    table = torch.tensor(edges, dtype=torch.int64).reshape(-1, 4)
    data["tensor", "along", "axis"].edge_index = table[:, :2].T.contiguous()
    data["tensor", "along", "axis"].dim = table[:, 2]
    data["tensor", "along", "axis"].produces = table[:, 3].bool()
    return data


def to_networkx(net: Structure, level: str = "layer") -> networkx.MultiDiGraph:
    """The network as a networkx graph, to draw and to analyse.

    Args:
        net: the network.
        level: "layer": nodes are axis and tensor names (attribute `kind`: "axis" or "tensor"), an
            edge points from a tensor to an axis it produces, and from an axis to a tensor that
            consumes it. "neuron": nodes are (axis, unit) pairs, an edge for every pair of units
            that an entry of a tensor of two plain axes connects, with attribute `weight` (a tuple).

    Raises:
        ValueError: another level.
    """
    graph = networkx.MultiDiGraph()
    if level == "layer":
        for axis in net.axes.values():
            graph.add_node(
                axis.name, kind="axis", size=axis.size, units=axis.kind, frozen=axis.frozen or ""
            )
        for name, tensor in net.tensors.items():
            shape = tuple(tensor.value.shape)
            graph.add_node(name, kind="tensor", role=tensor.role, shape=shape, numel=prod(shape))
            for i, dim in enumerate(tensor.dims):
                for along in atoms(dim):
                    ends = (name, along) if tensor.produces[i] else (along, name)
                    graph.add_edge(*ends, dim=i)
        return graph
    if level != "neuron":
        raise ValueError(f"level must be one of {', '.join(LEVELS)} (got {level!r})")
    for axis in net.axes.values():
        graph.add_nodes_from((axis.name, unit) for unit in range(axis.size))
    for name, tensor in net.tensors.items():
        order, n, m = _layout(tensor)
        rows, cols = _sides(tensor)
        if rows is None or cols is None:
            continue
        entries = tensor.value.permute(order).reshape(n, m, -1)
        for source in atoms(tensor.dims[cols]):
            for sink in atoms(tensor.dims[rows]):
                left = unit_index(tensor.dims[cols], source, net.axes)
                right = unit_index(tensor.dims[rows], sink, net.axes)
                for i in (right >= 0).nonzero().flatten().tolist():
                    for j in (left >= 0).nonzero().flatten().tolist():
                        graph.add_edge(
                            (source, int(left[j])),
                            (sink, int(right[i])),
                            tensor=name,
                            weight=tuple(entries[i, j].tolist()),
                        )
    return graph
