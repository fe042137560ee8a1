"""Orders for N:M lose no more, keep the function, and are left alone by other patterns."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from pruners.transformations import Permute
from pruners.transformations.deal import dealt
from tests.pruners.transformations.networks import CASES, EXACT, case, outputs


def lost(worth, order, n, m):
    return float(worth[:, order].unflatten(1, (-1, m)).topk(m - n, largest=False)[0].sum())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "m", "units"), [(2, 4, 16), (1, 4, 12), (1, 2, 10), (4, 8, 32)])
def test_a_dealt_order_is_a_permutation_that_loses_less(n, m, units, seed):
    worth = torch.rand(6, units, generator=torch.Generator().manual_seed(seed)) ** 4
    order = dealt([worth[:2], worth[2:]], n, m)
    assert order.sort().values.tolist() == list(range(units))
    assert lost(worth, order, n, m) < lost(worth, torch.arange(units), n, m)
    assert torch.equal(order, dealt([worth], n, m))


@pytest.mark.parametrize("seed", range(5))
def test_two_groups_are_dealt_as_well_as_they_can_be(seed):
    worth = torch.rand(3, 8, generator=torch.Generator().manual_seed(seed))
    best = min(
        lost(worth, torch.tensor([*first, *sorted(set(range(8)) - set(first))]), 2, 4)
        for first in combinations(range(8), 4)
    )
    assert lost(worth, dealt([worth], 2, 4), 2, 4) <= 1.1 * best


def test_one_group_stays():
    assert dealt([torch.rand(3, 4)], 2, 4).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("data", [True, False])
def test_the_function_stays(data):
    asked = case("Llama", "2:4", data=data)
    found = Permute().find(asked)
    assert found.moves.orders
    model, inputs = CASES["Llama"]()
    expected = outputs(model, inputs)
    moved = outputs(found.moves.apply(asked.net).to_model(), inputs)
    assert (moved - expected).abs().max() < EXACT["Llama"] * expected.abs().max()


def test_patterns_without_groups_are_left_alone():
    found = Permute().find(case("Llama"))
    assert not found.moves
    assert found.notes == ("Nothing was reordered: pattern unstructured has no groups.",)
