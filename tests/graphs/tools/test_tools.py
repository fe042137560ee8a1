"""The laws of the tools: names are taken once, files appear whole, digests tell apart."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from graphs.tools.digests import digest, file_digest, tensors_digest
from graphs.tools.files import read_tensors, whole_file, whole_folder, write_tensors, write_text
from graphs.tools.registry import Registry


class TestRegistry:
    def test_things_come_in_the_order_of_registration(self):
        found: Registry[int] = Registry("number")
        found.add("two", 2)
        found.add("one", 1)
        assert list(found) == ["two", "one"]
        assert found.find("one") == found["one"] == 1
        assert len(found) == 2

    def test_the_decorator_gives_back_what_it_decorates(self):
        found: Registry[object] = Registry("function")

        @found.register("f")
        def f() -> None: ...

        assert found["f"] is f

    def test_a_name_is_taken_once(self):
        found: Registry[int] = Registry("number")
        found.add("one", 1)
        with pytest.raises(ValueError, match='a number "one" is already registered'):
            found.add("one", 2)
        assert found["one"] == 1

    def test_an_unknown_name_is_told_with_the_nearest(self):
        found: Registry[int] = Registry("number")
        for i, name in enumerate(("uniform", "lamp")):
            found.add(name, i)
        with pytest.raises(ValueError, match=r'unknown number "unifrom" \(did you mean "uniform"'):
            found.find("unifrom")
        with pytest.raises(ValueError, match='"lamp": expected one of uniform'):
            found.find("lamp", among=["uniform"])


class TestFiles:
    def test_a_failure_leaves_what_was_there(self, tmp_path):
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

    def test_a_folder_appears_with_everything_in_it(self, tmp_path):
        folder = tmp_path / "made"
        with whole_folder(folder) as inside:
            (inside / "a").write_text("a")
            assert not folder.exists()
        assert (folder / "a").read_text() == "a"
        with pytest.raises(FileExistsError, match="not empty"), whole_folder(folder):
            pass

    def test_a_folder_that_fails_never_appears(self, tmp_path):
        def fail() -> None:
            with whole_folder(tmp_path / "made") as inside:
                (inside / "a").write_text("a")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert not list(tmp_path.iterdir())

    def test_tensors_come_back_bit_for_bit(self, tmp_path):
        tensors = {"a": torch.randn(3, 2), "b": torch.arange(4).bfloat16()}
        write_tensors(tmp_path / "t.safetensors", tensors, {"note": [1]})
        found, metadata = read_tensors(tmp_path / "t.safetensors")
        assert metadata == {"note": [1]}
        assert all(torch.equal(found[name], value) for name, value in tensors.items())


class TestDigests:
    @given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
    def test_texts_have_one_digest_exactly_when_they_are_the_same(self, one, other):
        assert (digest(*one) == digest(*other)) == (one == other)

    def test_of_a_file_is_its_sha256(self, tmp_path):
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
    def test_of_tensors_tells_name_shape_type_and_value_apart(self, other):
        same = {"a": torch.zeros(4)}
        assert tensors_digest(same) == tensors_digest({"a": torch.zeros(4)})
        assert tensors_digest(same) != tensors_digest(other)
