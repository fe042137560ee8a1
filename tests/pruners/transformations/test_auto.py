"""The transformation that loses least on examples left out is taken, and what was tried is said."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from pruners.transformations import Auto
from tests.pruners.transformations.networks import ids, llama, request


@pytest.mark.parametrize("zeros", ["unstructured", "2:4"])
def test_the_best_of_what_is_tried_is_taken(zeros):
    model = llama()
    net = trace(model, ids())
    found = Auto(descent=4).find(request(net, model, [ids(12, s) for s in range(4)], zeros))
    tried = found.figures["tried"]
    ways = ["none", "rotate", *(["rotate, permute"] if zeros == "2:4" else [])]
    assert list(tried) == ways
    best = min(tried, key=tried.get)
    assert bool(found.moves.turns) == (best != "none")
    assert found.notes[0].startswith("Transformations tried on examples left out (divergence): ")


def test_without_calibration_nothing_is_changed():
    model = llama()
    found = Auto().find(request(trace(model, ids()), model))
    assert not found.moves
    assert found.notes == ("Nothing was transformed: there is no calibration to judge by.",)


def test_few_predictions_cannot_judge():
    model = llama()
    batches = [ids(8, seed) for seed in range(4)]  # 48 tokens are left out
    found = Auto().find(request(trace(model, ids()), model, batches))
    assert not found.moves
    assert found.notes == (
        "Nothing was transformed: fewer than 64 predictions are left to judge by.",
    )


def test_outputs_that_are_no_scores_cannot_be_judged():
    model = nn.Sequential(nn.Linear(4, 4), nn.Flatten(0)).double()
    inputs = (torch.randn(6, 4).double(),)
    found = Auto().find(request(trace(model, inputs), model, [inputs]))
    assert not found.moves
