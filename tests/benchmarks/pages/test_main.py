"""Pages are what their records say; a page without a record is named and stays."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.pages import tradeoffs
from benchmarks.pages.__main__ import PAGES, main
from benchmarks.pages.keep_report import kept
from tests.metaprune.report.reports import report


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


def test_a_kept_report_draws_the_same_picture_and_names_no_folder(tmp_path):
    found = replace(report(), config={"model": {"path": "/somewhere"}})
    pictures = []
    for name, one in (("whole", found), ("kept", kept(found))):
        (tmp_path / f"{name}.json").write_text(one.to_json())
        tradeoffs.draw(tmp_path / "picture.svg", {"A network": tmp_path / f"{name}.json"})
        pictures.append((tmp_path / "picture.svg").read_bytes())
    assert pictures[0] == pictures[1]
    assert "somewhere" not in (tmp_path / "kept.json").read_text()
