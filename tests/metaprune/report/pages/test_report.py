"""The page shows everything and needs nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from metaprune.report import page
from metaprune.report.sections.budgets import drawing
from metaprune.report.sections.tradeoff import picture
from tests.metaprune.report.reports import report


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
    for svg in (picture(report(), "speedup"), drawing(report(), entries)):
        ElementTree.fromstring(svg.replace("xlink:href", "href").replace("&lt;", "lt"))
        assert "var(--" in svg or "class=" in svg
    plot = picture(report(), "speedup")
    assert "var(--series-0)" in plot
    assert "#0101" not in plot  # no stand-in colour is left
    assert drawing(report(), entries).count('class="track"') == 2
    assert "8 of 16 kept" in drawing(report(), entries)


@pytest.mark.parametrize(("params", "said"), [(2.5e4, "38 % fewer"), (4.4e4, "10 % more")])
def test_masks_say_what_they_took_of_which_weights(params, said):
    entries = tuple(
        replace(e, achieved={**e.achieved, "speedup": 1.0, "params": params})
        for e in report().entries
    )
    shown = page(replace(report(), entries=entries))
    assert f"with 50 % of the prunable weights gone, {said} parameters" in shown
