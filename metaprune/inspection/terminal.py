"""An inspection on a terminal, legible from 80 columns on."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from metaprune.inspection import repeats
from metaprune.inspection.schema import Alone, Group, Inspection
from metaprune.inspection.words import folded, units
from metaprune.report import words

ROWS = 20
"""Lines of the table of modules; the JSON has them all."""


def as_text(found: Inspection, width: int = 100) -> str:
    """The inspection as plain text of at most `width` columns."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    show(found, console)
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined]


def show(found: Inspection, console: Console, rows: int = ROWS) -> None:
    """Print everything, repeated blocks once.

    Args:
        found: what to print.
        console: where to.
        rows: most lines of the table of modules.
    """
    console.print(Text(summary(found)), highlight=False)
    _title(console, "May be pruned")
    _groups(found, console)
    for kind, entry in found.exactness.items():
        _bullet(console, f"{kind} ({_of(entry['groups'], 'group')})", entry["meaning"])
    if found.left_alone:
        _title(console, "Left alone")
        for one in found.left_alone:
            _bullet(console, ", ".join(shortened(folded(one.axes), 4)), reason(one))
    _title(console, f"Reachable, {least(found)}")
    console.print(_reachable(found))
    _title(console, "Where the cost is")
    console.print(_modules(found, rows))
    _bullet(console, "torch's own counter", check(found))
    for difference in found.check.differences[:5]:
        _bullet(console, f"  {difference.module or '(top)'}", difference.why)
    if found.notes:
        _title(console, "Remarks")
        for note in found.notes:
            _bullet(console, "", note)


def summary(found: Inspection) -> str:
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
        f"{first} {_of(len(found.groups), 'group')} of units may be pruned: down to "
        f"{100 * low:.3g} % of the parameters, and {speed:.3g}× fewer MACs."
    )


def least(found: Inspection) -> str:
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


def check(found: Inspection) -> str:
    """How torch's counter compares, in a sentence."""
    result = found.check
    if result.torch_macs is None:
        return f"no comparison: {result.failure}"
    counted = sum(1 for module in found.modules.values() if module.macs)
    if result.agrees:
        return f"agrees: {result.macs:,} MACs in all, and the same in each of {counted} modules"
    share = result.torch_macs / result.macs if result.macs else float("inf")
    return (
        f"{result.torch_macs:,} MACs, {100 * share:.4g} % of the {result.macs:,} here; "
        f"{_of(len(result.differences), 'module')} of {len(found.modules)} differ"
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


def _groups(found: Inspection, console: Console) -> None:
    for row in repeats.groups(found):
        group = row.first
        made = repeats.joined(g.made_by for g in row.all)
        read = repeats.joined(g.read_by for g in row.all)
        each = f" each, × {row.times}" if row.times > 1 else ""
        line = Text("; ".join(shortened(row.names, 2)), "bold")
        line.append(f": {units(group.units, group.kind)}{each}, {group.exactness}", "not bold")
        console.print(Padding(line, (0, 0, 0, 2)), highlight=False)
        words_ = f"{flow(made, read)}\nremoving one {saves(group)}"
        console.print(Padding(Text(words_, "dim"), (0, 0, 0, 6)), highlight=False)


def saves(group: Group) -> str:
    """What goes with one unit."""
    return (
        f"cuts {_of(len(group.slices), 'slice')}, saves {words.count(group.params_saved)} "
        f"parameters and {words.count(group.macs_saved)} MACs"
    )


def _reachable(found: Inspection) -> Table:
    table = Table("target", "from", "to", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, ends in found.reachable.items():
        table.add_row(label(name), *(amount(found, name, value) for value in ends))
    return table


def label(metric: str) -> str:
    """A metric as a person reads it."""
    return {"latency_ms": "latency, measured"}.get(metric, metric)


def amount(found: Inspection, metric: str, value: float) -> str:
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


def _modules(found: Inspection, rows: int) -> Table:
    table = Table(
        "module", "class", "MACs", "in all", "params", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    for column in table.columns[2:]:
        column.justify, column.no_wrap = "right", True
    folded_rows = repeats.modules(found)
    total = max(1, found.cost["macs"])
    for row in folded_rows[:rows]:
        path, module = row.first
        table.add_row(
            Text("; ".join(shortened(row.names, 2)) if path else "(top)"),
            module.kind + (f" × {row.times}" if row.times > 1 else ""),
            words.count(module.macs),
            f"{100 * row.times * module.macs / total:.1f} %",
            words.count(module.params),
        )
    rest = folded_rows[rows:]
    if rest:
        macs = sum(r.times * r.first[1].macs for r in rest)
        params = sum(r.times * r.first[1].params for r in rest)
        table.add_row(
            f"{_of(sum(r.times for r in rest), 'module')} more, together", "",
            words.count(macs), f"{100 * macs / total:.1f} %", words.count(params), style="dim",
        )  # fmt: skip
    return table


def _title(console: Console, text: str) -> None:
    console.print(Text(f"\n{text}", "bold"), highlight=False)


def _bullet(console: Console, name: str, text: str) -> None:
    line = Text()
    if name:
        line.append(name, "bold").append(": ")
    console.print(Padding(line.append(text), (0, 0, 0, 2)), highlight=False)


def _of(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
