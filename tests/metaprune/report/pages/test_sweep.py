"""One page over all points: what to take, what failed, what seeds do."""

from __future__ import annotations

from dataclasses import replace

from metaprune.report.pages.sweep import Point, page, series
from tests.metaprune.report.reports import report


def points(scores=(0.94, 0.92), seeds=(0, 1), split="test", **changes):
    """Points of two rules and several seeds, and one that failed."""
    found = []
    for rule, score in zip(("expected-loss", "uniform"), scores, strict=True):
        for seed in seeds:
            entries = tuple(
                replace(e, before={"accuracy": score - 0.01 * i + 0.001 * seed}, after={},
                        folder=f"model-speedup{e.asked['speedup']}")
                for i, e in enumerate(report().entries[::2])
            )  # fmt: skip
            folder = f"{len(found)}-budget={rule}-seed={seed}"
            settings = (f"budget={rule}", f"seed={seed}")
            own = replace(report(), entries=entries, split=split, **changes)
            found.append(Point(folder, settings, own))
    return [*found, Point("9-speedup=1e7", ("target.speedup=1e7",), None, "out of <reach>")]


def done():
    return [(point, point.report) for point in points() if point.report]


def shown(*arguments, **settings) -> str:
    return page(points(*arguments, **settings), "A sweep", "metaprune prune -m", "2026-01-31")


def test_the_smallest_good_network_of_all_points_is_recommended():
    text = shown()
    assert "metaprune.load(&#34;1-budget=expected-loss-seed=1/model-speedup2.0&#34;)" in text
    assert "chosen among 4 by scores of the test split" in text
    assert "chosen among" not in shown(split="validation")
    assert "1-budget=expected-loss-seed=1/report.html" in text


def test_a_digit_that_nobody_is_shown_does_not_choose():
    less, more = points(scores=(0.948, 0.92))[:2]
    entries = [replace(e, achieved={**e.achieved, "sparsity": e.achieved["sparsity"] + 1e-4})
               for e in less.report.entries]  # fmt: skip
    first = replace(less, report=replace(less.report, entries=tuple(entries)))
    text = page([first, more], "A sweep", None, None)
    assert "metaprune.load(&#34;1-budget=expected-loss-seed=1/model-speedup2.0&#34;)" in text


def test_what_failed_is_told():
    text = shown()
    assert "<h1>A sweep</h1>" in text
    assert "5 points" in text
    assert "out of &lt;reach&gt;" in text


def test_seeds_are_put_together_and_one_seed_is_none():
    text = shown()
    assert "Over seeds" in text
    assert "94.05 %" in text  # mean of 94.0 and 94.1
    assert "94.00 % to 94.10 %" in text
    assert "Over seeds" not in shown(seeds=(0,))


def test_scores_of_different_kinds_are_not_compared():
    mixed = [*points(), replace(points(split="validation")[0], folder="other")]
    text = page(mixed, "A sweep", None, None)
    assert "Points differ in what they measure" in text
    assert "metaprune.load" not in text


def test_colours_stand_for_methods_where_settings_are_too_many():
    assert series(done()) == ["metanet budget=expected-loss", "metanet budget=uniform"]
    first, told = done()[0]
    many = [(replace(first, settings=(f"budget.a={i}",)), told) for i in range(9)]
    assert series(many) == ["metanet"]


def test_nothing_saved_is_nothing_to_take():
    bare = [
        replace(p, report=replace(p.report, entries=tuple(
            replace(e, folder=None) for e in p.report.entries)))
        for p in points()[:-1]
    ]  # fmt: skip
    assert "none to recommend" in page(bare, "A sweep", None, None)
