"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import save_file

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


@pytest.fixture(params=[0o022, 0o077, 0o002], ids=oct)
def mode(request):
    """What new files may be under an umask, which holds meanwhile."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


@pytest.mark.skipif(os.name == "nt", reason="permissions are those of POSIX")
def test_permissions_are_those_of_any_new_file(tmp_path, mode):
    write_text(tmp_path / "a.txt", "a")
    write_tensors(tmp_path / "t.safetensors", {"a": torch.ones(2)})
    write_tensors(tmp_path / "t.safetensors", {"a": torch.ones(3)})  # in the place of another
    with whole_folder(tmp_path / "made") as inside:
        (inside / "below").mkdir()
        save_file({"a": torch.ones(2)}, inside / "below" / "t.safetensors")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert {path.stat().st_mode & 0o777 for path in files} == {mode}
