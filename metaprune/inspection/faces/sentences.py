"""The sentences of an inspection, the same on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Iterable

from graphs.tools.words import counted, first_of
from metaprune.inspection.schema import Alone, Findings, Group, Turning
from metaprune.report import words
from pruners.curves import Curve

_PLURALS = {"vocabulary": "vocabulary entries"}


def units(count: int, kind: str) -> str:
    """`16 channels`, `1 head`."""
    return counted(count, kind, _PLURALS.get(kind))


EXPECTED = {"units": "units that stay", "weights": "weights that stay"}
"""Part of `Findings.expected` → what its curves are over."""

SHARES = (0.75, 0.5, 0.25)
AT = tuple(f"{100 * share:g} %" for share in SHARES)
"""Shares at which losses of curves are told."""


def expected(found: Findings) -> str:
    """What the curves of expected loss say, and of which weights they do not."""
    if not found.expected:
        return "Not measured: that takes calibration data."
    said = (
        "Expected loss is the divergence of a prediction that pruning this alone adds to second "
        "order, when what stays is fitted again; a quarter of the units or weights may stay, half "
        "of them, or three quarters."
    )
    unreached = found.expected.get("unreached", {})
    if unreached:
        said += (
            f" No gradient reaches {counted(len(unreached), 'weight')} ({first_of([*unreached])}): "
            "counted as average ones."
        )
    return said


def losses(found: Findings, what: str) -> list[tuple[str, list[str]]]:
    """Name and expected loss at `SHARES`, of every curve, the costliest at half of it first.

    Args:
        found: with expected losses.
        what: of `EXPECTED`.
    """
    rows = []
    for name, each in found.expected.get(what, {}).items():
        curve = Curve(tuple(each["kept"]), tuple(each["losses"]))
        rows.append((name, [curve.at(share * curve.kept[-1]) for share in SHARES]))
    rows.sort(key=lambda row: -row[1][SHARES.index(0.5)])
    return [(name, [f"{loss:.3g}" for loss in values]) for name, values in rows]


def summary(found: Findings) -> str:
    """The network and what can be done with it, in a sentence or two."""
    cost = found.cost
    first = (
        f"{found.model} on {found.inputs}: {words.count(cost['macs'])} MACs for one example, "
        f"{words.count(cost['params'])} parameters, {words.size(cost['size_mb'])}."
    )
    if not found.groups:
        return f"{first} Nothing of it can be pruned."
    low = found.reachable["params"][0] / max(1, cost["params"])
    speed = found.reachable["speedup"][1]
    return (
        f"{first} {counted(len(found.groups), 'group')} of units may be pruned: down to "
        f"{100 * low:.3g} % of the parameters, and {speed:.3g}× fewer MACs."
    )


def least(found: Findings) -> str:
    """What `reachable` leaves of every axis, in words."""
    n = found.min_units
    kept = f"{100 * n:g} %" if isinstance(n, float) else f"{n}"
    return f"with at least {kept} of the units of every group"


def reason(one: Alone) -> str:
    """Why axes are left alone, where in the code, and what would free them."""
    text = one.reason
    if one.operator:
        text += f" ({one.operator}"
        if one.places:
            text += f" at {', '.join(shortened(list(one.places), 3))}"
        text += ")"
    return f"{text}; what would free it: {one.remedy}" if one.remedy else text


def check(found: Findings) -> str:
    """How torch's counter compares, in a sentence."""
    result = found.check
    if result.torch_macs is None:
        return f"no comparison: {result.failure}"
    costly = sum(1 for module in found.modules.values() if module.macs)
    if result.agrees:
        return f"agrees: {result.macs:,} MACs in all, and the same in each of {costly} modules"
    share = result.torch_macs / result.macs if result.macs else float("inf")
    return (
        f"{result.torch_macs:,} MACs, {100 * share:.4g} % of the {result.macs:,} here; "
        f"{counted(len(result.differences), 'module')} of {len(found.modules)} differ"
    )


def shortened(names: Iterable[str], most: int) -> list[str]:
    """The first names, and how many more there are."""
    names = list(names)
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return names[:most] + more


def flow(made: list[str], read: list[str], most: int = 3) -> str:
    """`conv1, layer1.0–8.conv2 → linear`: what makes the units, and what reads them.

    A path that all of them lie in is said once, behind.
    """
    paths = [name.split(".") for name in (*made, *read)]
    shared = 0
    while paths and all(len(p) > shared + 1 and p[shared] == paths[0][shared] for p in paths):
        shared += 1
    sides = [
        ", ".join(shortened([".".join(name.split(".")[shared:]) for name in names], most))
        for names in (made, read)
    ]
    where = f"   (in {'.'.join(paths[0][:shared])})" if shared and paths else ""
    return f"{sides[0] or '(parameters)'} → {sides[1] or '(no weight)'}{where}"


def saves(group: Group) -> str:
    """What goes with one unit."""
    return (
        f"cuts {counted(len(group.slices), 'slice')}, saves {words.count(group.params_saved)} "
        f"parameters and {words.count(group.macs_saved)} MACs"
    )


def turns(one: Turning, times: int = 1) -> str:
    """`64 features may be rotated, after folding 11 norm scales`, and the size of the group."""
    each = f" each, × {times}" if times > 1 else ""
    how = (
        "may be rotated" if one.group == "rotations" else "may be multiplied by invertible matrices"
    )
    around = " around the vector of ones" if one.keeps_ones else ""
    per = f", one for each of {units(one.per, one.per_kind)}" if one.per > 1 else ""
    first = [f"folding {counted(one.folds, 'norm scale')}"] if one.folds else []
    if one.unties:
        first.append(f"untying {', '.join(one.unties)} (+{one.params_added:,} parameters)")
    after = f", after {' and '.join(first)}" if first else ""
    return (
        f"{units(one.units, one.kind)}{each} {how}{around}{per}{after}: "
        f"{counted(one.freedom, 'number')} to choose"
    )


def label(metric: str) -> str:
    """A metric as a person reads it."""
    return {"latency_ms": "latency, measured"}.get(metric, metric)


def amount(found: Findings, metric: str, value: float) -> str:
    """A value of a metric, counts with their share of the dense network."""
    if metric == "speedup":
        return f"{value:.4g}×"
    if metric == "sparsity":
        return f"{100 * value:.4g} %"
    if metric == "latency_ms":
        return f"{value:.3g} ms"
    shown = words.size(value) if metric == "size_mb" else f"{value:,.0f}"
    whole = found.cost[metric]
    return f"{shown} ({100 * value / whole:.3g} %)" if whole else shown
