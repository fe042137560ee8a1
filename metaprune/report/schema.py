"""The report of a run as a value: `Report.from_json(report.to_json()) == report`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from metaprune.report import documents

FORMAT = 1
WHAT, REMEDY = "a report", "run the command again to make one"


@dataclass(frozen=True)
class Layer:
    """What a method leaves of one axis (units) or one tensor (weights that are not zero).

    Args:
        name: of the axis or tensor.
        of: units or weights before.
        kept: units or weights after.
        form: what took a weight's place: "mask", "factors", "mask and factors"; "" for units.
    """

    name: str
    of: int
    kept: int
    form: str = ""


@dataclass(frozen=True)
class Entry:
    """One pruned network: a method at a target.

    Args:
        method: for instance "metanet", "uniform", "global".
        asked: the target as a person writes it.
        achieved: macs, params, units (counts), size_mb (10⁶ bytes), speedup, sparsity.
        before: metrics before finetuning.
        after: metrics after finetuning; empty without one.
        latency_ms: of one forward pass, the median; None where it was not measured.
        latency_range_ms: its quartiles; None where it was not measured.
        layers: the budget, axis by axis or tensor by tensor.
        notes: sentences about what was done and what was not.
        seconds: step → duration.
        expected: what the budget was expected to lose (`pruners.curves.Prediction.to_json`), and
            what was `lost`; empty where another rule divided it.
        transform: what was done to the network before (`metaprune.transforming.told`); empty where
            nothing was asked.
        folder: where the pruned network is, relative to the report; None where it was not saved.
        held_out: metrics of what it is in the end on the split that methods were chosen by; empty
            where there was nothing to choose.
        interval: the score that 95 % of draws of the examples lie in, of what it is in the end;
            None where it is not known.
        behind: methods at the same target, and "dense", that are better by more than chance.
    """

    method: str
    asked: Mapping[str, Any]
    achieved: Mapping[str, float]
    before: Mapping[str, float]
    after: Mapping[str, float] = field(default_factory=dict)
    latency_ms: float | None = None
    latency_range_ms: tuple[float, float] | None = None
    layers: tuple[Layer, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    expected: Mapping[str, Any] = field(default_factory=dict)
    transform: Mapping[str, Any] = field(default_factory=dict)
    folder: str | None = None
    held_out: Mapping[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    behind: tuple[str, ...] = ()

    @property
    def final(self) -> Mapping[str, float]:
        """The metrics that count: after finetuning, or before where there was none."""
        return self.after or self.before


@dataclass(frozen=True)
class Node:
    """An axis in the drawing of the network.

    Args:
        name: of the axis.
        size: number of units.
        kind: what a unit is.
        state: class of exactness, or the reason why the axis is left alone.
        frozen: whether it is left alone.
    """

    name: str
    size: int
    kind: str
    state: str
    frozen: bool


@dataclass(frozen=True)
class Edge:
    """A weight in the drawing: it reads one axis ("": the input) and produces another."""

    name: str
    source: str
    target: str


@dataclass(frozen=True)
class Report:
    """Everything a run found out; what `report.html` shows is a function of it.

    Args:
        title: what was pruned.
        command: that wrote the report.
        score: metric that is plotted: "accuracy", "perplexity".
        higher_is_better: direction of the score.
        split: the part of the data that was measured.
        dense: metrics of the network before pruning.
        cost: macs, params, size_mb of the network before pruning.
        latency_ms: of the network before pruning, the median; None where it was not measured.
        latency_range_ms: its quartiles; None where it was not measured.
        timing: how: repeats, batch_size, device, threads; empty where it was not.
        examples: that every score was measured on; None where it is not known.
        interval: of the network before pruning, as of an entry.
        chosen_by: split and number of examples that the networks which were saved were chosen by;
            empty where there was nothing to choose.
        entries: the pruned networks.
        nodes: axes of the network, in order.
        edges: weights of the network, in order.
        config: settings of the run.
        provenance: versions, seed, fingerprints, machine.
        format: of this file.
    """

    title: str
    command: str
    score: str
    higher_is_better: bool
    split: str
    dense: Mapping[str, float]
    cost: Mapping[str, float]
    latency_ms: float | None = None
    latency_range_ms: tuple[float, float] | None = None
    timing: Mapping[str, Any] = field(default_factory=dict)
    examples: int | None = None
    interval: tuple[float, float] | None = None
    chosen_by: Mapping[str, Any] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()
    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods in the order in which they first appear."""
        return tuple(dict.fromkeys(entry.method for entry in self.entries))

    @property
    def finetuned(self) -> bool:
        """Whether any entry was finetuned."""
        return any(entry.after for entry in self.entries)

    def to_json(self) -> str:
        """Readable JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read what `to_json` wrote.

        Raises:
            ValueError: not JSON, of another format, or with unknown or missing keys.
        """
        content = documents.read(text, WHAT, FORMAT, REMEDY)
        entries = [
            {**entry, "layers": documents.build_all(Layer, entry.get("layers"), WHAT)}
            for entry in content.get("entries") or ()
        ]
        parts = {
            "entries": documents.build_all(Entry, entries, WHAT),
            "nodes": documents.build_all(Node, content.get("nodes"), WHAT),
            "edges": documents.build_all(Edge, content.get("edges"), WHAT),
        }
        return documents.build(cls, {**content, **parts}, WHAT)
