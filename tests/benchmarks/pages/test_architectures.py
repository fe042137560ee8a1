"""The page of architectures counts what is wrong, and says it."""

from __future__ import annotations

from benchmarks.architectures import gathered
from benchmarks.pages.architectures import page
from tests.architectures import ARCHITECTURES


def row(name: str, **more):
    found = {
        "name": name,
        "field": "convnets",
        "failed": {},
        "commit": "0000000",
        "versions": "torch 2",
        "params": 1234,
        "axes": 4,
        "free": 3,
        "removable": 0.5,
        "exactness": {"exact": 2, "bias-fold": 1},
        "macs": 0.25,
        "seconds": 1.0,
        "memory": 20.0,
        "kept": True,
        "deviations": {"permutation": 3e-15, "removal, exact": 2e-14},
        "frozen": {
            "a": [8, "softmax over units (aten.softmax.int at net.py:3)"],
            "b": [5, "output of the model"],
        },
    }
    return {**found, **more}


def test_a_page_without_failures_claims_zero():
    text = page([row("good")])
    assert "Silently wrong: zero" in text
    assert "2e-14" in text
    assert "- torch 2: 1 rows" in text
    assert "| good | 1,234 | 3/4 | 50% | exact 2, fold 1 | 25% | 1.0 | 20 | class |" in text
    assert "softmax over units (aten.softmax.int) (1)" in text
    assert "output of the model" not in text.split("## Convolutional")[1]


def test_a_failure_is_counted_and_named():
    text = page([row("good"), row("bad", failed={"permutation": "…"}, kept=False)])
    assert "Silently wrong: 1" in text
    assert "bad (**broken**)" in text
    assert "- `bad`: permutation" in text


def test_what_is_refused_or_skipped_is_listed_with_the_reason():
    refused = {"name": "r", "field": "others", "failed": {}, "error": "TraceError at a.py:1: why\n"}
    skipped = {"name": "s", "field": "libraries", "skipped": "timm is not there"}
    text = page([row("good"), refused, skipped])
    assert "- `r`: why" in text
    assert "## Not imported here\n\n`s`" in text


def test_a_row_that_was_skipped_gives_way_to_one_that_ran():
    name = next(iter(ARCHITECTURES))
    ran, skipped = {"name": name, "params": 1}, {"name": name, "skipped": "timm is not there"}
    for rows in ([ran, skipped], [skipped, ran]):
        assert gathered([*rows, {"name": "of another time"}]) == {name: ran}
    assert gathered([ran, {**ran, "params": 2}])[name]["params"] == 2
