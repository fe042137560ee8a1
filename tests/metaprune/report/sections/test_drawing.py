"""Budgets of weights have rows of their own."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from metaprune.report import Layer, page
from metaprune.report.sections.drawing import drawing
from metaprune.report.sections.tradeoff import tradeoff
from tests.metaprune.report.reports import report


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
        "At speedup 2.0, metanet leads: 85.00 % after finetuning with 50 % of the prunable "
        "weights gone, 50 % fewer parameters." in (page(alike))
    )
    assert "sparsity" in tradeoff(alike)
    assert "speed-up (MACs before / after)" in tradeoff(found)
