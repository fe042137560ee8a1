from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training import data
from training.data.tasks import IGNORED
from training.data.text import windows


class Letters:
    """A tokenizer whose tokens are letters."""

    def __init__(self, bos: int | None) -> None:
        self.bos_token_id = bos

    def encode(self, content: str, **options: object) -> list[int]:
        return [ord(letter) for letter in content]


class TestWindows:
    @given(st.text("abc", min_size=1, max_size=40), st.integers(2, 9))
    @settings(max_examples=40, deadline=None)
    def test_every_token_is_a_target_once_and_follows_its_predecessor(self, content, window):
        split = windows(content, Letters(bos=1), window)
        counted = split.targets != IGNORED
        assert split.targets[counted].tolist() == [ord(letter) for letter in content]
        assert (split.inputs[:, 0] == 1).all()
        assert torch.equal(
            split.inputs[:, 1:][counted[:, :-1]], split.targets[:, :-1][counted[:, :-1]]
        )
        assert split.bytes_per_token == 1.0

    def test_without_bos_the_first_token_of_a_window_is_only_read(self):
        split = windows("abcdef", Letters(bos=None), 3)
        assert split.inputs.tolist() == [[97, 98], [100, 101]]
        assert split.targets.tolist() == [[98, 99], [101, 102]]

    def test_missing_file(self, tmp_path, shared):
        tokenizer = str(shared / "models/stories260K")
        with pytest.raises(FileNotFoundError, match="does not exist"):
            data.load("text", train="absent.txt", test="absent.txt", tokenizer=tokenizer)
