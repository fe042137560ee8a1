"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os
import resource
import signal

import pytest
import torch
from safetensors.torch import save_file

from graphs.tools.documents import FileError
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


@pytest.mark.parametrize("make", [whole_file, whole_folder])
def test_what_killed_processes_left_goes_and_what_others_make_stays(make, tmp_path):
    child = os.fork()
    if not child:
        with make(tmp_path / "made") as place:
            if make is whole_file:
                place.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    with make(tmp_path / "other") as place:
        assert not left.exists()
        with make(tmp_path / "made") as again:
            assert place.parent.exists()
            (again / "a" if again.is_dir() else again).write_text("whole")
        (place / "a" if place.is_dir() else place).write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "other"]


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(size, tmp_path):
    tensors, path = {"a": torch.zeros(5000)}, tmp_path / "t.safetensors"
    write_tensors(path, {"a": torch.ones(2)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        for write in (
            lambda: write_tensors(path, tensors),
            lambda: write_text(path, "a" * 10**6),
        ):
            with pytest.raises(OSError, match=r"t\.safetensors' was not written; make room"):
                write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.equal(read_tensors(path)[0]["a"], torch.ones(2))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_same_tensors_are_the_same_bytes(tmp_path):
    written = set()
    for number in range(8):
        tensors = {"b": torch.ones(2), "a": torch.zeros(3)}
        order = sorted(tensors) if number % 2 else list(tensors)
        write_tensors(tmp_path / str(number), {name: tensors[name] for name in order}, {"x": 1})
        written.add((tmp_path / str(number)).read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8, torch.complex128])
def test_a_flipped_bit_is_found_and_named(dtype, tmp_path):
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"first": torch.ones(4, dtype=dtype), "last": torch.ones(4, dtype=dtype)})
    content = path.read_bytes()
    keys = (content.index(b'json"'), content.index(b'digests"'))
    for place, said in ((len(content) - 1, '"last"'), *((key, "header") for key in keys)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(FileError, match=rf"t\.safetensors' is (damaged|not).*{said}"):
            read_tensors(path)
