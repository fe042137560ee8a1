"""What an inspection found, as a value: `Findings.from_json(found.to_json()) == found`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from metaprune.report import documents

FORMAT = 2
WHAT, REMEDY = "an inspection", "inspect the model again"


@dataclass(frozen=True)
class Group:
    """Units that may be removed, and what goes with one of them.

    Args:
        axis: name of the axis.
        units: number of units.
        kind: what a unit is: "channel", "head", "feature", ...
        exactness: class of exactness, explained in `Findings.exactness`.
        made_by: modules whose weights produce the units.
        read_by: modules whose weights read them.
        slices: "tensor[dimension]" of everything that is cut.
        params_saved: parameters that go with one unit.
        macs_saved: MACs of one example that go with one unit.
    """

    axis: str
    units: int
    kind: str
    exactness: str
    made_by: tuple[str, ...]
    read_by: tuple[str, ...]
    slices: tuple[str, ...]
    params_saved: int
    macs_saved: int


@dataclass(frozen=True)
class Alone:
    """Axes that are left alone for one reason.

    Args:
        reason: why, in words.
        operator: that stands in the way; None where none does.
        places: "file:line" in the model's code, in order.
        axes: their names.
        remedy: what would free them; "" where nothing would.
    """

    reason: str
    operator: str | None
    places: tuple[str, ...]
    axes: tuple[str, ...]
    remedy: str = ""


@dataclass(frozen=True)
class Turning:
    """An axis whose features may be multiplied by matrices without changing the function.

    Args:
        axis: name of the axis.
        units: number of features.
        kind: what a unit is.
        group: "rotations" or "invertible".
        keeps_ones: whether members keep the vector of ones (behind a LayerNorm).
        per: how many matrices there are, one for each unit of another axis; 1 for one in all.
        per_kind: what the units of that axis are.
        freedom: how many numbers may be chosen freely.
        folds: norm scales that must be folded into weights first.
        unties: tied tensors that must get values of their own first.
        params_added: parameters that the network then has more.
    """

    axis: str
    units: int
    kind: str
    group: str
    keeps_ones: bool
    per: int
    per_kind: str
    freedom: int
    folds: int
    unties: tuple[str, ...]
    params_added: int


@dataclass(frozen=True)
class Module:
    """What a module itself costs, without the modules inside it.

    Args:
        kind: name of its class.
        macs: multiply–accumulates of one example.
        params: parameters, tied ones where they are first.
        torch_macs: as torch's own counter has it; None where that cannot count.
    """

    kind: str
    macs: int
    params: int
    torch_macs: int | None


@dataclass(frozen=True)
class Layer:
    """One operator that multiplies or looks up, in the order of the forward.

    Args:
        name: its weight, or its module and operator.
        module: path of the module that calls it.
        operator: ATen name.
        place: "file:line" in the model's code, "" where it is not known.
        reads, writes: axes along its inputs and along its result.
        macs: of one example.
        params: of the parameters it reads, where they are first read.
    """

    name: str
    module: str
    operator: str
    place: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    macs: int
    params: int


@dataclass(frozen=True)
class Difference:
    """A module on which the two counts differ."""

    module: str
    macs: int
    torch_macs: int
    why: str


@dataclass(frozen=True)
class Check:
    """Our MACs beside those of torch's own counter (its operations halved).

    Args:
        macs: of one example.
        torch_macs: of one example; None where torch cannot count.
        agrees: whether they are the same in every module.
        failure: why torch cannot count.
        differences: the modules where they differ.
    """

    macs: int
    torch_macs: int | None
    agrees: bool
    failure: str = ""
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What can be said about pruning a network, before any work.

    Args:
        model: name of its class.
        inputs: dtypes and shapes it was traced on; MACs are of one example of them.
        cost: macs, params, size_mb, units of the dense network.
        reachable: metric → (lowest, highest); `latency_ms` where it was measured.
        min_units: fewest units of an axis that stay, a share or a number, for `reachable`.
        groups: what may be pruned.
        exactness: class → {"groups": how many, "meaning": in words}, for the classes that occur.
        left_alone: what is not, by reason.
        turning: axes whose features may be turned by matrices.
        not_turning: the other groups, by what stands in the way.
        modules: path → cost, for modules that have one, in order.
        layers: what multiplies, in order.
        check: against torch's own counter.
        graph: the layer-level graph as node-link data (networkx).
        expected: {"units", "weights"} → name → {"kept", "losses"}, what pruning is expected to
            lose, and "unreached"; empty without calibration.
        notes: remarks.
        seconds: step → duration.
        format: of this document.
    """

    model: str
    inputs: str
    cost: Mapping[str, float]
    reachable: Mapping[str, tuple[float, float]]
    min_units: float | int
    groups: tuple[Group, ...]
    exactness: Mapping[str, Mapping[str, Any]]
    left_alone: tuple[Alone, ...]
    turning: tuple[Turning, ...]
    not_turning: tuple[Alone, ...]
    modules: Mapping[str, Module]
    layers: tuple[Layer, ...]
    check: Check
    graph: Mapping[str, Any]
    expected: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> str:
        """One readable JSON document."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: not JSON, of another format, or with unknown or missing keys.
        """
        content = documents.read(text, WHAT, FORMAT, REMEDY)
        check = dict(content.get("check") or {})
        differences = documents.build_all(Difference, check.pop("differences", ()), WHAT)
        parts = {
            "groups": documents.build_all(Group, content.get("groups"), WHAT),
            "left_alone": documents.build_all(Alone, content.get("left_alone"), WHAT),
            "turning": documents.build_all(Turning, content.get("turning"), WHAT),
            "not_turning": documents.build_all(Alone, content.get("not_turning"), WHAT),
            "layers": documents.build_all(Layer, content.get("layers"), WHAT),
            "modules": {
                path: documents.build(Module, module, WHAT)
                for path, module in (content.get("modules") or {}).items()
            },
            "check": documents.build(Check, {**check, "differences": differences}, WHAT),
            "reachable": {k: tuple(v) for k, v in (content.get("reachable") or {}).items()},
            "notes": tuple(content.get("notes") or ()),
        }
        return documents.build(cls, {**content, **parts}, WHAT)
