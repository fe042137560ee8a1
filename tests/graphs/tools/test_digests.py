"""Digests tell whether two things are the same."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphs.tools.digests import digest, file_digest, tensors_digest


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_texts_have_one_digest_exactly_when_they_are_the_same(one, other):
    assert (digest(*one) == digest(*other)) == (one == other)


def test_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()[:16]


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4).half()},
        {"a": torch.tensor([0.0, 0, 0, 1])},
    ],
)
def test_of_tensors_tells_name_shape_type_and_value_apart(other):
    same = {"a": torch.zeros(4)}
    assert tensors_digest(same) == tensors_digest({"a": torch.zeros(4)})
    assert tensors_digest(same) != tensors_digest(other)
