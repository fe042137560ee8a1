"""Pages are what their records say; a page without a record is named and stays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.pages import tradeoffs
from benchmarks.pages.__main__ import PAGES, main


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.name)
def test_a_page_is_the_one_of_its_record(page, tmp_path):
    if not all(path.exists() for path in page.records):
        pytest.skip(f"not recorded here; {page.measure} does it")
    page.write(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == page.path.read_bytes()


def test_a_page_without_its_record_stays_and_is_named(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("as it is")
    page = replace(PAGES[0], path=path, records=(tmp_path / "gone.jsonl",))
    with pytest.raises(SystemExit, match=r"page\.md needs gone\.jsonl; measure: python -m"):
        main([page])
    assert path.read_text() == "as it is"


def test_a_picture_has_a_line_for_every_rule_and_drops_other_patterns(tmp_path):
    def line(rule, speedup, accuracy, pattern="channels"):
        cell = {"model": "Net", "pattern": pattern, "examples": 512, "rule": rule, "seed": 0}
        return {**cell, "target": {"speedup": speedup}, "figures": {"accuracy": accuracy}}

    dense = {**line("dense", 1.0, 92.0), "pattern": "dense"}
    drawn = [line("global", 2.0, 80.0), line("expected loss", 2.0, 85.0)]
    other = [line("global", 2.0, 10.0, "unstructured"), line("flap", 2.0, 10.0)]
    pictures = []
    for lines in ([dense, *drawn], [dense, *drawn, *other], [dense, drawn[0]]):
        tradeoffs.draw(tmp_path / "picture.svg", lines)
        pictures.append((tmp_path / "picture.svg").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]
