"""What is recommended is saved, small and good; what is better is said; ties are ties."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metaprune.report import page
from metaprune.report.ranking import gives_up_little, leaders, recommended
from metaprune.report.sections.recommendation import code, sentences
from tests.metaprune.report.reports import report


def with_scores(scores, dense=0.95, saved=True, behind=None, score="accuracy", higher=True):
    """A report whose entries have these scores; those of the first method are saved.

    `behind`: for every entry, whom it is behind by more than chance; None where nothing was drawn.
    """
    found = report(score=score, finetuned=False, higher=higher)
    entries = tuple(
        replace(
            entry,
            before={score: value},
            folder=f"model-speedup{entry.asked['speedup']}"
            if saved and entry.method == "metanet"
            else None,
            interval=None if behind is None else (value - 0.01, value + 0.01),
            behind=() if behind is None else behind[place],
        )
        for place, (entry, value) in enumerate(zip(found.entries, scores, strict=True))
    )
    interval = None if behind is None else (dense - 0.01, dense + 0.01)
    return replace(found, entries=entries, dense={score: dense}, interval=interval, examples=400)


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


def test_what_was_not_saved_is_not_recommended():
    found = with_scores((0.95, 0.9, 0.9, 0.9), saved=False)
    assert recommended(found) is None
    assert "none to recommend" in page(found)


def test_a_better_method_is_named():
    found = with_scores((0.90, 0.95, 0.5, 0.5))
    said = " ".join(sentences(found, recommended(found)))
    assert "On the test split uniform <b> did better" in said
    assert "give up much" in said
    fine = with_scores((0.95, 0.9, 0.5, 0.5))
    assert "did better" not in " ".join(sentences(fine, recommended(fine)))


def test_the_page_begins_with_it_and_its_code_opens_it():
    behind = ((), ("dense",), ("dense",), ("dense", "metanet"))
    found = with_scores((0.95, 0.9, 0.8, 0.7), behind=behind)
    text = page(found)
    assert text.index("<h2>Recommended</h2>") < text.index("<h2>Results</h2>")
    entry = recommended(found)
    assert 'metaprune.load("model-speedup2.0")' in code(entry)
    assert "95.00 % (94.0 to 96.0 %)" in sentences(found, entry)[0]
    assert "Scores are of 400 examples" in text
    assert "One seed" in " ".join(text.split())


def test_what_it_was_chosen_by_is_said():
    found = with_scores((0.95, 0.9, 0.5, 0.5))
    entries = tuple(replace(e, held_out={"accuracy": e.before["accuracy"] - 0.01})
                    for e in found.entries)  # fmt: skip
    found = replace(found, entries=entries, chosen_by={"split": "validation", "examples": 300})
    said = " ".join(sentences(found, recommended(found)))
    assert "the best score on 300 held-out examples (validation)" in said
    assert "94.00 %, against uniform <b> 89.00 %" in said
    assert "probably trained" not in said
    same = replace(found, split="validation")
    assert "has the best score" in " ".join(sentences(same, recommended(same)))


def test_equal_scores_are_not_beaten_and_scores_of_trained_examples_are_told():
    found = with_scores((0.89, 0.89, 0.5, 0.5), behind=((), (), (), ()))
    entries = tuple(replace(e, held_out={"accuracy": 0.966}) for e in found.entries)
    found = replace(found, entries=entries, chosen_by={"split": "validation", "examples": 300})
    said = " ".join(sentences(found, recommended(found)))
    assert "96.60 %, as has uniform <b>." in said
    assert "uniform <b> differs from it by no more than chance" in said
    assert "probably trained on these examples" in said


@pytest.mark.parametrize(
    ("behind", "names"),
    [
        (None, ["metanet"]),
        (((), (), (), ("metanet",)), ["metanet", "uniform <b>"]),
        (((), ("metanet",), (), ("metanet",)), ["metanet"]),
    ],
)
def test_what_differs_by_chance_ties(behind, names):
    found = with_scores((0.90, 0.88, 0.6, 0.5), behind=behind)
    assert [entry.method for entry in leaders(found, found.entries[:2])] == names
    tied = "metanet and uniform &lt;b&gt; differ by no more than chance" in page(found)
    assert tied == (len(names) == 2)


@pytest.mark.parametrize(("drawn", "fine"), [(("dense",), False), ((), True)])
def test_what_is_worse_than_the_dense_one_by_chance_alone_is_recommended(drawn, fine):
    found = with_scores((0.90, 0.5, 0.5, 0.5), behind=(drawn, *[("dense",)] * 3))
    assert gives_up_little(found, found.entries[0]) == fine
