"""What is recommended is saved, small and good; what is better is said; ties are ties."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaprune.report import page
from metaprune.report.ranking import interval, leaders, recommended, worse
from metaprune.report.sections.recommendation import code, sentences
from tests.metaprune.report.reports import report


def with_scores(scores, dense=0.95, saved=True, examples=None, score="accuracy", higher=True):
    """A report whose entries have these scores; those of the first method are saved."""
    found = report(score=score, finetuned=False, higher=higher)
    entries = tuple(
        replace(
            entry,
            before={score: value},
            folder=f"model-speedup{entry.asked['speedup']}"
            if saved and entry.method == "metanet"
            else None,
        )
        for entry, value in zip(found.entries, scores, strict=True)
    )
    return replace(found, entries=entries, dense={score: dense}, examples=examples)


@pytest.mark.parametrize(
    ("scores", "speedup"),
    [
        ((0.95, 0, 0.945, 0), 4.0),  # both near the dense one: the smaller
        ((0.95, 0, 0.80, 0), 2.0),  # only the larger is near
        ((0.80, 0, 0.70, 0), 2.0),  # neither: the better
        ((0.70, 0, 0.80, 0), 4.0),
        ((float("nan"), 0, 0.2, 0), 4.0),
    ],
)
def test_the_smallest_that_gives_up_little_or_else_the_best(scores, speedup):
    assert recommended(with_scores(scores)).asked["speedup"] == speedup


def test_of_perplexities_the_lower_is_better():
    found = with_scores((5.1, 9, 9.0, 9), dense=5.0, score="perplexity", higher=False)
    assert recommended(found).asked["speedup"] == 2.0
    assert interval(found, found.dense) is None


def test_what_was_not_saved_is_not_recommended():
    found = with_scores((0.95, 0.9, 0.9, 0.9), saved=False)
    assert recommended(found) is None
    assert "none to recommend" in page(found)


def test_a_better_method_is_named():
    found = with_scores((0.90, 0.95, 0.5, 0.5))
    said = " ".join(sentences(found, recommended(found)))
    assert "uniform <b> did better at this target" in said
    assert "give up much" in said
    fine = with_scores((0.95, 0.9, 0.5, 0.5))
    assert "did better" not in " ".join(sentences(fine, recommended(fine)))


def test_the_page_begins_with_it_and_its_code_opens_it():
    found = with_scores((0.95, 0.9, 0.8, 0.7), examples=400)
    text = page(found)
    assert text.index("<h2>Recommended</h2>") < text.index("<h2>Results</h2>")
    entry = recommended(found)
    assert 'metaprune.load("model-speedup2.0")' in code(entry)
    assert "±" in sentences(found, entry)[0]
    assert "Scores are of 400 examples" in text


@pytest.mark.parametrize(
    ("examples", "names"),
    [(None, ["metanet"]), (100, ["metanet", "uniform <b>"]), (100_000, ["metanet"])],
)
def test_what_differs_by_chance_ties(examples, names):
    found = with_scores((0.90, 0.88, 0.5, 0.5), examples=examples)
    assert [entry.method for entry in leaders(found, found.entries[:2])] == names
    if len(names) == 2:
        assert "metanet and uniform &lt;b&gt; differ by no more than chance" in page(found)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**6))
def test_nobody_is_worse_than_himself_and_one_of_two_at_most(one, other, n):
    found = replace(report(), examples=n)
    first, second = {"accuracy": one}, {"accuracy": other}
    assert not worse(found, first, first)
    assert not (worse(found, first, second) and worse(found, second, first))
    assert interval(found, first) == pytest.approx(1.96 * sqrt(one * (1 - one) / n))
