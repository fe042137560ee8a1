"""Outputs agree up to rounding, and tell modules apart."""

from __future__ import annotations

import pytest
import torch

from graphs import trace
from graphs.build.compare import agree, informative, lively, one_product_more, resized
from graphs.calls.running import outputs
from tests.oracles.networks.families import FAMILIES, build


def test_outputs_that_differ_do_not_agree():
    one = [torch.arange(6.0).reshape(2, 3)]
    assert agree(one, [one[0] + 1e-5])
    assert not agree(one, [one[0] + 0.1])
    assert not agree(one, [one[0][:, :2]])
    assert not agree(one, [one[0].double()])
    assert not agree(one, [*one, *one])
    assert not agree(ValueError("no"), ValueError("no"))
    assert not agree([torch.tensor([1, 2])], [torch.tensor([1, 3])])
    assert agree([torch.zeros(2, device="meta")], [torch.zeros(2, device="meta")])


def test_outputs_that_tell_nothing_are_not_informative():
    assert informative([torch.tensor([1.0, 2.0])])
    assert not informative([torch.tensor([1.0, float("nan")])])
    assert not informative([torch.zeros(3)])
    assert not informative(ValueError("no"))


def test_the_number_of_examples_changes_and_nothing_else():
    mask, flag = torch.ones(7), True
    (x, same, third), kwargs = resized(((torch.arange(6).reshape(2, 3), mask, flag), {}), 2)
    assert x.tolist() == [[0, 1, 2], [3, 4, 5], [0, 1, 2]]
    assert same is mask
    assert third is True
    assert kwargs == {}
    assert resized(((torch.ones(5, 1),), {}), 5)[0][0].shape == (2, 1)


def test_a_tolerance_is_a_share_of_the_largest_number():
    expected = [torch.tensor([0.0, -100.0, float("nan"), float("inf")])]
    near = [torch.tensor([0.9, -100.0, float("nan"), float("inf")])]
    assert not agree(near, expected)
    assert agree(near, expected, tolerance=0.01)
    assert not agree(near, expected, tolerance=0.005)
    assert not agree([near[0].nan_to_num()], expected, tolerance=0.5)
    assert not agree([torch.tensor([1])], [torch.tensor([2])], tolerance=10.0)
    by_dtype = {torch.float32: 0.01}
    assert agree(near, expected, tolerance=by_dtype.__getitem__)


def test_a_matrix_in_two_factors_rounds_once_more():
    torch.manual_seed(0)
    x, left, right = torch.randn(40, 64), torch.randn(64, 64), torch.randn(64, 64)
    assert agree([x @ left @ right], [x @ (left @ right)], tolerance=one_product_more)
    assert not agree([x @ left @ right], [x @ left @ (1.01 * right)], tolerance=one_product_more)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_random_weights_tell_models_apart(name):
    """Whatever the initialisation: outputs are finite, not all alike, and not the model's own."""
    model, inputs = build(name)
    net = trace(model, inputs)
    made = net.to_model()
    tensors = dict(made.named_parameters()) | dict(made.named_buffers())
    for key, value in lively(net).items():
        tensors[key].data = value
    found = outputs(made, net.source.example)
    assert informative(found)
    assert not agree(found, outputs(model, net.source.example))
