"""What may be turned is said in words, with the size of the group and what must go before."""

from __future__ import annotations

import torch
from torch import nn

import metaprune
from metaprune.inspection.faces import sentences
from tests.graphs.symmetries.networks import Attention, Stream, lively, tokens, vectors


def test_a_tied_stream_says_what_it_costs():
    found = metaprune.inspect(lively(Stream(nn.RMSNorm, tied=True)), tokens())
    (stream,) = found.turning
    assert sentences.turns(stream) == (
        "6 features may be rotated, after folding 2 norm scales and untying head.weight "
        "(+42 parameters): 15 numbers to choose"
    )
    assert sentences.turns(stream) in " ".join(str(found).split())


def test_a_layer_norm_leaves_rotations_around_the_ones():
    found = metaprune.inspect(lively(Stream()), tokens())
    (stream,) = found.turning
    assert "may be rotated around the vector of ones, after folding 2" in sentences.turns(stream)


def test_heads_have_matrices_of_their_own():
    found = metaprune.inspect(lively(Attention()), vectors())
    said = {one.axis: sentences.turns(one) for one in found.turning}
    assert said["v.out.head_feature"] == (
        "3 head features may be multiplied by invertible matrices, one for each of 2 heads: "
        "18 numbers to choose"
    )


def test_what_stands_in_the_way_is_said_with_its_place():
    model = lively(Stream(on_the_stream=torch.relu))
    found = metaprune.inspect(model, tokens())
    assert found.turning == ()
    assert {one.operator for one in found.not_turning} == {"aten.relu.default", "aten.gelu.default"}
    assert all(one.places for one in found.not_turning)
    assert "May not be turned" in str(found)
    assert type(found).from_json(found.to_json()) == found
