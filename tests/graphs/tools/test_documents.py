"""What cannot be read is refused in words that name the file and say what to do."""

from __future__ import annotations

import pytest

from graphs.tools.documents import FileError, parse_json, read_json, regular, told

TEXTS = {
    "cut": ('{"a": ', "not valid JSON"),
    "twice": ('{"a": {"b": 1, "b": 2}}', 'the key "b" is there twice'),
    "deep": ("[" * 10**5, "nested too deeply"),
    "long number": ("9" * 10**5, "integer"),
    "half a character": ('["\\ud800"]', "half a character"),
    "nothing": ("", "not valid JSON"),
}


@pytest.mark.parametrize(("text", "said"), TEXTS.values(), ids=TEXTS)
def test_texts_that_are_no_json(text, said, tmp_path):
    path = tmp_path / "a [b].json"
    path.write_text(text)
    with pytest.raises(FileError, match=rf"a \[b\]\.json.*{said}.*; write it again"):
        read_json(path, "write it again")


def test_whole_characters_and_numbers_come_back():
    assert parse_json('["\\ud83d\\ude00", 1e-3, NaN, {"a": null}]')[0] == "\U0001f600"


@pytest.mark.parametrize("path", ["/dev/zero", "/", "x\0y", "/etc/passwd/x", "n" * 5000])
def test_what_is_no_plain_file(path):
    with pytest.raises((FileError, FileNotFoundError)):
        regular(path)


def test_links_may_lead_about_in_a_folder_and_not_out_of_it(tmp_path):
    inside = tmp_path / "folder"
    inside.mkdir()
    for path in (tmp_path / "out", inside / "in"):
        path.write_text("1")
    (inside / "good").symlink_to(inside / "in")
    (inside / "bad").symlink_to(tmp_path / "out")
    assert read_json(inside / "good", "", below=inside) == 1
    with pytest.raises(FileError, match="is a link out of its folder"):
        read_json(inside / "bad", "", below=inside)
    assert read_json(inside / "bad", "") == 1


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError(), IndexError("far"), OSError(5)])
def test_whatever_a_reader_raises_is_told_of_the_file(error):
    said = r"'a\.json' is damaged: .*; do it again"
    with pytest.raises(FileError, match=said) as caught, told("a.json", "do it again"):
        raise error
    assert caught.value.__cause__ is error
