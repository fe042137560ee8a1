"""An inspection on a terminal, legible from 80 columns on."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from metaprune.inspection.faces import repeated_names, sentences
from metaprune.inspection.faces.sentences import counted, shortened
from metaprune.inspection.schema import Findings
from metaprune.report import words
from metaprune.report.network.names import folded

ROWS = 20
"""Lines of the table of modules; the JSON has them all."""


def as_text(found: Findings, width: int = 100) -> str:
    """The inspection as plain text of at most `width` columns."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    show(found, console)
    return console.file.getvalue().rstrip()  # type: ignore[attr-defined]


def show(found: Findings, console: Console, rows: int = ROWS) -> None:
    """Print everything, repeated blocks once.

    Args:
        found: what to print.
        console: where to.
        rows: most lines of a table of modules or expected losses.
    """
    console.print(Text(sentences.summary(found)), highlight=False)
    _title(console, "May be pruned")
    _groups(found, console)
    for kind, entry in found.exactness.items():
        _bullet(console, f"{kind} ({counted(entry['groups'], 'group')})", entry["meaning"])
    if found.left_alone:
        _title(console, "Left alone")
        for one in found.left_alone:
            _bullet(console, ", ".join(shortened(folded(one.axes), 4)), sentences.reason(one))
    if found.turning:
        _title(console, "May be turned by matrices, without changing the function")
        for row in repeated_names.turning(found):
            name = "; ".join(shortened(row.names, 2))
            _bullet(console, name, sentences.turns(row.first, row.times))
    if found.not_turning:
        _title(console, "May not be turned")
        for one in found.not_turning:
            _bullet(console, ", ".join(shortened(folded(one.axes), 4)), sentences.reason(one))
    _title(console, f"Reachable, {sentences.least(found)}")
    console.print(_reachable(found))
    if found.expected:
        _title(console, "What pruning is expected to lose")
        _bullet(console, "", sentences.expected(found))
        for what, head in sentences.EXPECTED.items():
            if told := sentences.losses(found, what):
                console.print(_losses(head, told, rows))
    _title(console, "Where the cost is")
    console.print(_modules(found, rows))
    _bullet(console, "torch's own counter", sentences.check(found))
    for difference in found.check.differences[:5]:
        _bullet(console, f"  {difference.module or '(top)'}", difference.why)
    if found.notes:
        _title(console, "Remarks")
        for note in found.notes:
            _bullet(console, "", note)


def _groups(found: Findings, console: Console) -> None:
    for row in repeated_names.groups(found):
        group = row.first
        made = repeated_names.joined(g.made_by for g in row.all)
        read = repeated_names.joined(g.read_by for g in row.all)
        each = f" each, × {row.times}" if row.times > 1 else ""
        line = Text("; ".join(shortened(row.names, 2)), "bold")
        line.append(
            f": {sentences.units(group.units, group.kind)}{each}, {group.exactness}", "not bold"
        )
        console.print(Padding(line, (0, 0, 0, 2)), highlight=False)
        words_ = f"{sentences.flow(made, read)}\nremoving one {sentences.saves(group)}"
        console.print(Padding(Text(words_, "dim"), (0, 0, 0, 6)), highlight=False)


def _reachable(found: Findings) -> Table:
    table = Table("target", "from", "to", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, ends in found.reachable.items():
        table.add_row(
            sentences.label(name), *(sentences.amount(found, name, value) for value in ends)
        )
    return table


def _losses(head: str, told: list[tuple[str, list[str]]], rows: int) -> Table:
    table = Table(head, *sentences.AT, box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for name, losses in told[:rows]:
        table.add_row(name, *losses)
    if len(told) > rows:
        table.add_row(f"{len(told) - rows:,} more that lose less", style="dim")
    return table


def _modules(found: Findings, rows: int) -> Table:
    table = Table(
        "module", "class", "MACs", "in all", "params", box=box.SIMPLE_HEAD, pad_edge=False
    )
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    for column in table.columns[2:]:
        column.justify, column.no_wrap = "right", True
    folded_rows = repeated_names.modules(found)
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
            f"{counted(sum(r.times for r in rest), 'module')} more, together", "",
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
