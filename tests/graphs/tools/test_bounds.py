"""What is built is compared with the tensors that are there, before it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs.tools.bounds import NUMBERS, TENSORS, TooLargeError, check_counts, check_size

SMALL = {"weight": torch.zeros(4, 4)}


def test_a_network_that_fits_comes_back_without_memory():
    built = check_size(lambda: nn.Linear(4, 4), SMALL)
    assert built.weight.is_meta


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Linear(NUMBERS, 2),
        lambda: nn.Sequential(*(nn.Linear(1, 1) for _ in range(10 * TENSORS))),
        lambda: nn.Sequential(*(nn.Identity() for _ in range(10 * TENSORS))),
        lambda: nn.BatchNorm1d(NUMBERS + 1),
    ],
    ids=["wide", "deep", "empty", "buffers"],
)
def test_what_the_tensors_do_not_account_for_is_refused(build):
    with pytest.raises(TooLargeError, match="far larger than the tensors"):
        check_size(build, SMALL)
    nn.Linear(NUMBERS // 4, 8, device="meta")  # nobody is counted any more


def test_a_constructor_that_fails_is_a_sentence():
    with pytest.raises(ValueError, match="cannot be built: Trying to create tensor with negative"):
        check_size(lambda: nn.Linear(-1, 2), SMALL)


def test_lists_and_numbers_of_layers_are_counted_at_any_depth():
    check_counts({"inner": [{"num_layers": 4, "hidden_size": 10**9}]}, SMALL)
    for content in ({"inner": [{"num_layers": 10**6}]}, {"kinds": ["full"] * 10**5}):
        with pytest.raises(TooLargeError, match="far less"):
            check_counts(content, SMALL)
