"""Files and folders appear whole or not at all."""

from __future__ import annotations

import pytest
import torch

from graphs.tools.files import read_tensors, whole_file, whole_folder, write_tensors, write_text


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "before")

    def fail() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "before"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_a_folder_appears_with_everything_in_it(tmp_path):
    folder = tmp_path / "made"
    with whole_folder(folder) as inside:
        (inside / "a").write_text("a")
        assert not folder.exists()
    assert (folder / "a").read_text() == "a"
    with pytest.raises(FileExistsError, match="not empty"), whole_folder(folder):
        pass


def test_a_folder_that_fails_never_appears(tmp_path):
    def fail() -> None:
        with whole_folder(tmp_path / "made") as inside:
            (inside / "a").write_text("a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list(tmp_path.iterdir())


def test_tensors_come_back_bit_for_bit(tmp_path):
    tensors = {"a": torch.randn(3, 2), "b": torch.arange(4).bfloat16()}
    write_tensors(tmp_path / "t.safetensors", tensors, {"note": [1]})
    found, metadata = read_tensors(tmp_path / "t.safetensors")
    assert metadata == {"note": [1]}
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
