"""Damages are put together by family, pattern, target and rule."""

from __future__ import annotations

import pytest

from metaprune.report.pages.training import cells, page


def one(network, family, target, rule, damage):
    return {"network": network, "family": family, "pattern": "channels", "target": target,
            "rule": rule, "damage": damage}  # fmt: skip


COMPARED = [
    one(network, family, target, rule, damage)
    for network, family in (("a", "plain"), ("b", "plain"), ("c", "vit <b>"))
    for target in ("macs 50%", "macs 33%")
    for rule, damage in (("base", 1.0), ("advised", {"a": 0.5, "b": 2.0, "c": 0.25}[network]))
]
RECORD = {
    "title": "A metanetwork", "command": "metaprune train", "date": "2026-01-31",
    "figures": {"steps": 1000, "minutes": 12.5}, "base": "the rule that it corrects",
    "comparisons": COMPARED, "config": {"seed": 0}, "versions": {"torch": "2"},
    "history": [{"step": s, "advised": 1 / s, "base": 1.0} for s in (100, 200, 300)],
}  # fmt: skip


def test_every_family_and_target_has_a_row_of_geometric_means():
    rows = [row.cells for row in cells(COMPARED, ["base", "advised", "other"])]
    assert rows == [
        ("plain", "channels", "macs 33%", "2", "1.000", "1.000", "-"),
        ("plain", "channels", "macs 50%", "2", "1.000", "1.000", "-"),
        ("vit <b>", "channels", "macs 33%", "1", "1.000", "0.250", "-"),
        ("vit <b>", "channels", "macs 50%", "1", "1.000", "0.250", "-"),
    ]


@pytest.mark.parametrize("history", [None, RECORD["history"]])
def test_the_page_has_them_all(history):
    text = page({**RECORD, "history": history})
    assert "vit &lt;b&gt;" in text
    assert ("On the way" in text) == (history is not None)
    assert "0.630" in text  # (0.5 · 2 · 0.25)^(1/3)


def test_without_any_it_is_said():
    assert "Nothing was judged" in page({**RECORD, "comparisons": []})
