"""Reports: one value, shown as JSON, as a page and as a table."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from rich.console import Console

from graphs import trace
from metaprune.report import Edge, Entry, Layer, Node, Report, page, print_table, rows, write
from metaprune.report.drawing import drawing
from metaprune.report.outline import outline
from metaprune.report.tradeoff import tradeoff
from tests.metaprune.networks import cnn, images


def report(score: str = "accuracy", finetuned: bool = True, higher: bool = True) -> Report:
    entries = []
    for speedup in (2.0, 4.0):
        for index, method in enumerate(("metanet", "uniform <b>")):
            value = 0.9 - 0.05 * speedup - 0.02 * index
            achieved = {
                "macs": 1e6 / speedup,
                "params": 2e4,
                "size_mb": 0.1,
                "speedup": speedup,
                "sparsity": 0.5,
            }
            entries.append(
                Entry(
                    method=method,
                    asked={"speedup": speedup},
                    achieved=achieved,
                    before={score: value},
                    after={score: value + 0.05} if finetuned else {},
                    latency_ms=1.5,
                    layers=(Layer("conv.out", 16, 8),),
                    notes=("2 batch norms recalibrated.",),
                )
            )
    return Report(
        title="A <network>",
        command="prune",
        score=score,
        higher_is_better=higher,
        split="test",
        dense={score: 0.95},
        cost={"macs": 1e6, "params": 4e4, "size_mb": 0.2},
        latency_ms=3.0,
        entries=tuple(entries),
        nodes=(
            Node("conv.out", 16, "channel", "exact", False),
            Node("fc.out", 10, "feature", "output of the model", True),
        ),
        edges=(Edge("conv.weight", "", "conv.out"), Edge("fc.weight", "conv.out", "fc.out")),
        config={"seed": 0},
        provenance={"seed": 0, "versions": {"torch": "2"}},
    )


def test_json_round_trip():
    assert Report.from_json(report().to_json()).to_json() == report().to_json()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ('{"format": 99}', "not a report of format 1"),
        (report().to_json().replace('"latency_ms"', '"lag"'), "has no 'lag'"),
        (report().to_json().replace('"title": "A <network>",', ""), "incomplete"),
    ],
)
def test_broken_json_is_refused(text, words):
    with pytest.raises(ValueError, match=words):
        Report.from_json(text)


@pytest.mark.parametrize("finetuned", [True, False])
@pytest.mark.parametrize(("score", "higher"), [("accuracy", True), ("perplexity", False)])
def test_page_shows_everything_and_needs_nothing(score, higher, finetuned):
    shown = page(report(score, finetuned, higher))
    assert "A &lt;network&gt;" in shown
    assert "<b>uniform" not in shown
    assert "uniform &lt;b&gt;" in shown
    assert "output of the model" in shown
    assert "2 batch norms recalibrated." in shown
    addresses = re.findall(r"(?:href|src)\s*=\s*[\"']([^\"']*)|url\(([^)]*)\)", shown)
    assert all((a or b).startswith("#") for a, b in addresses), addresses
    assert "<script" not in shown


def test_pictures_are_well_formed_and_follow_the_theme():
    entries = report().entries[:2]
    for svg in (tradeoff(report()), drawing(report(), entries)):
        ElementTree.fromstring(svg.replace("xlink:href", "href").replace("&lt;", "lt"))
        assert "var(--" in svg or "class=" in svg
    plot = tradeoff(report())
    assert "var(--series-0)" in plot
    assert "#0101" not in plot  # no stand-in colour is left
    assert drawing(report(), entries).count('class="track"') == 2
    assert "8 of 16 kept" in drawing(report(), entries)


def test_budgets_of_weights_have_rows_of_their_own():
    """Masks and factors leave shares of weights, which are no axes."""
    entries = tuple(
        replace(entry, layers=(Layer("a.weight", 11008, 10), Layer("b.weight", 8, 8)))
        for entry in report().entries
    )
    found = replace(report(), entries=entries)
    shown = drawing(found, entries[:2])
    ElementTree.fromstring(shown)
    assert shown.count('class="track"') == 4
    assert "a.weight: 10 of 11008 kept" in shown
    assert ">11k<" in shown
    assert 'class="arc' not in shown
    assert "A row is a weight" in page(found)
    assert "A row is an axis" in page(report())
    masked = [replace(e, achieved={**e.achieved, "speedup": 1.0, "sparsity": 0.5}) for e in entries]
    alike = replace(found, entries=tuple(masked))
    assert (
        "At speedup 2.0, metanet leads: 85.00 % after finetuning with 50 % of the weights gone."
        in (page(alike))
    )
    assert "sparsity" in tradeoff(alike)
    assert "speed-up (MACs before / after)" in tradeoff(found)


def test_table_marks_the_best_of_each_target():
    header, body = rows(report())
    assert header[-2:] == ["accuracy, one-shot", "accuracy, finetuned"]
    assert len(body) == 5
    assert body[1][0] == "metanet"
    assert body[1][1] == "2.00×"
    console = Console(record=True, width=120, force_terminal=True, file=io.StringIO())
    print_table(report(), console)
    text = console.export_text(styles=True)
    bold = [line for line in text.splitlines() if "\x1b[1m" in line and "metanet" in line]
    assert len(bold) == 2


def test_written_files_are_readable_again(tmp_path):
    found, shown = write(report(), tmp_path / "run")
    assert Report.from_json(found.read_text()).to_json() == report().to_json()
    assert shown.read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in found.parent.iterdir()) == ["report.html", "report.json"]


def test_outline_has_every_axis_and_every_weight():
    net = trace(cnn(), images())
    nodes, edges = outline(net)
    assert {node.name for node in nodes} == set(net.axes)
    weights = {name for name, tensor in net.tensors.items() if tensor.role == "weight"}
    assert {edge.name for edge in edges} == weights
    names = {node.name for node in nodes}
    assert all(edge.target in names and edge.source in names | {""} for edge in edges)
