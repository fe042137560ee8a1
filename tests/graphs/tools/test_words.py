from __future__ import annotations

import pytest

from graphs.tools.words import counted, first_of


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 layers"), (1, "1 layer"), (2, "2 layers"), (1000, "1,000 layers")]
)
def test_numbers_stand_before_their_noun(count, text):
    assert counted(count, "layer") == text
    assert counted(count, "bias", "biases").endswith("bias" if count == 1 else "biases")


def test_long_lists_are_cut():
    assert first_of(["a", "b", "c"]) == "a, b, c"
    assert first_of(["a", "b", "c", "d"]) == "a, b, c, ..."
    assert first_of([]) == ""
