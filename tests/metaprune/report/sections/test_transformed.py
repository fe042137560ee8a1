"""What was transformed has a place of its own, with its cost and what it was judged to leave."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from metaprune.report import Report, page
from metaprune.report.sections.transformed import transformed
from tests.metaprune.report.reports import report

FOUND = {
    "turned": {"embed.out": 64, "value <b>": 8},
    "reordered": {"up.out": 128},
    "folded": ["embed.out"],
    "untied": {"head.weight": 32768},
    "parameters": 32768,
    "notes": ["Turned: embed.out <b>."],
    "tried": {"none": 0.5, "rotate": 0.25},
}


def with_transform(**found: object) -> Report:
    entries = tuple(replace(entry, transform=found) for entry in report().entries)
    return replace(report(), entries=entries)


def test_without_one_it_is_said():
    assert "pruned as it was given" in transformed(report())


@pytest.mark.parametrize("left_out", [(), ("tried",), tuple(FOUND)])
def test_all_that_was_found_is_shown(left_out):
    found = {key: value for key, value in FOUND.items() if key not in left_out} or {"notes": []}
    shown = transformed(with_transform(**found))
    ElementTree.fromstring(f"<div>{shown}</div>")
    assert shown.count("<tr>") == 1 + len(report().entries)
    assert ("none 0.5, rotate 0.25" in shown) == ("tried" in found)
    assert ("not judged" in shown) == ("tried" not in found)
    assert shown.count("<td>32,768</td>") == (4 if "parameters" in found else 0)
    assert shown.count("Turned: embed.out &lt;b&gt;.") == ("notes" not in left_out)


def test_it_is_part_of_the_page_and_of_the_document():
    found = with_transform(**FOUND)
    assert transformed(found) in page(found)
    assert Report.from_json(found.to_json()) == found
