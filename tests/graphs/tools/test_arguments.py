"""What people give is put in one form, or refused in words that say what is expected."""

from __future__ import annotations

import numpy
import pytest
import torch

from graphs.tools.arguments import real_numbers, said, whole_numbers


@pytest.mark.parametrize(
    "make", [list, tuple, numpy.array, torch.tensor, lambda n: torch.tensor(n).short()]
)
@pytest.mark.parametrize("numbers", [[2, 0, 1], [], [-1]])
def test_whole_numbers_in_any_form_are_the_same(make, numbers):
    found = whole_numbers(make(numbers), "units")
    assert found.dtype == torch.int64
    assert found.tolist() == numbers


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([0.5], "a list of float32"),
        ([True, False], "a list of bool"),
        (torch.tensor([True]), "a bool tensor"),
        (torch.ones(2), "a float32 tensor"),
        (torch.ones(2, dtype=torch.int64, device="meta"), "an int64 tensor without values"),
        (None, "None"),
        ("12", "'12'"),
        ({1, 2}, "a set"),
        ([[1], [2, 3]], "a list"),
    ],
)
def test_what_is_none_of_them_is_named(given, words):
    with pytest.raises(ValueError, match=f"^units: expected whole numbers, .*got {words}"):
        whole_numbers(given, "units")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int64])
def test_real_numbers_are_left_as_they_are(dtype):
    given = torch.ones(2, dtype=dtype)
    assert real_numbers(given, "a matrix") is given


@pytest.mark.parametrize(
    "given",
    [
        [1.0],
        numpy.ones(2),
        torch.ones(2).bool(),
        torch.ones(2).to(torch.complex64),
        torch.ones(2, device="meta"),
        1.0,
    ],
)
def test_what_is_no_tensor_of_real_numbers_is_named(given):
    with pytest.raises(ValueError, match="a matrix, a tensor of real numbers"):
        real_numbers(given, "a matrix")


def test_short_values_are_said_as_they_are():
    assert [said(v) for v in (None, 3, "x", 1.5, [1], object())] == [
        "None", "3", "'x'", "1.5", "a list", "an object",
    ]  # fmt: skip
