"""Every kind of page in a real browser, on a desk and on a telephone, in light and in dark."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metaprune.inspection.faces.page import page as inspection_page
from metaprune.report import page
from metaprune.report.pages import sweep, training
from tests.metaprune.report.pages.browser import THEMES, faults, program
from tests.metaprune.report.pages.test_sweep import points
from tests.metaprune.report.pages.test_training import RECORD
from tests.metaprune.report.reports import report
from tests.metaprune.report.sections.test_budgets import repeated
from tests.metaprune.report.sections.test_expected import LAYERS
from tests.metaprune.report.sections.test_transformed import FOUND

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(program() is None, reason="there is no Chromium or Chrome here"),
]

LONG = "model.layers.0.self_attention.query_key_value_projection.weight" * 3


@pytest.fixture(scope="module")
def pages(llama) -> dict[str, str]:
    told = {"total": 0.75, "layers": LAYERS, "lost": 0.0123}
    entries = tuple(
        replace(entry, expected=told, transform=FOUND, notes=(f"{LONG} was turned.",))
        for entry in report().entries
    )
    provenance = {"command": f"metaprune prune model.path={LONG}", "date": "2026-01-31"}
    whole = replace(report(), entries=entries, provenance=provenance, config={"path": LONG})
    return {
        "channels": page(whole),
        "masks": page(repeated(12, "mask")),
        "both": page(repeated(3, "mask and factors")),
        "sweep": sweep.page(points(), "A sweep", f"metaprune prune -m {LONG}", "2026-01-31"),
        "training": training.page(RECORD),
        "inspection": inspection_page(llama),
    }


@pytest.mark.parametrize("theme", THEMES)
def test_nothing_is_cut_off_unreadable_or_broken(pages, theme, tmp_path):
    found = faults(pages, theme, tmp_path)
    assert len(found) == 2 * len(pages) + 1
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_faults_are_found(tmp_path):
    """What is measured can fail: a wide table, grey on grey, small letters, a script's error."""
    wide = '<p style="width:2000px">wide</p>'
    pale = '<p style="color:#ccc">pale</p>'
    small = '<svg width="300" viewBox="0 0 300 20"><text y="9" font-size="5">small</text></svg>'
    broken = "<script>console.error('broken')</script>"
    found = faults({"bad": f"<body>{wide}{pale}{small}{broken}"}, "light", tmp_path)
    for said in ("page is", "contrast", "pixels high"):
        assert any(said in one for one in found["bad at 390"]), said
    assert any("broken" in one for one in found["scripts"])
