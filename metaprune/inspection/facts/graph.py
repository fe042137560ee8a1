"""The layer-level graph: as plain data inside an inspection, for networkx, and as a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import networkx

from graphs import Network


def graph_data(net: Network) -> dict[str, Any]:
    """The layer-level graph as plain node-link data."""
    graph = net.to_networkx("layer")
    for _, data in graph.nodes(data=True):
        if "shape" in data:
            data["shape"] = "×".join(map(str, data["shape"]))
    return networkx.node_link_data(graph, edges="links")


def graph_of(data: Mapping[str, Any]) -> networkx.MultiDiGraph:
    """The graph that `graph_data` wrote down."""
    return networkx.node_link_graph(dict(data), edges="links")


def write_graph(data: Mapping[str, Any], path: Path) -> None:
    """Write what `graph_data` wrote down as GraphML, for networkx, Gephi and yEd."""
    networkx.write_graphml(graph_of(data), path)
