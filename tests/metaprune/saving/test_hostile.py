"""A folder is data: whatever is in it, it is opened or refused in words, and nothing is run."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import time

import pytest
import torch
from safetensors.torch import save_file

import metaprune
from graphs.tools.digests import file_digest
from graphs.tools.documents import FileError
from tests.metaprune.saving.attacks import Anonymous, attacks, change, put, write_folders

ATTACKS = attacks()

RAN: list[str] = []


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder of every kind."""
    return write_folders(tmp_path_factory.mktemp("folders"))


@pytest.fixture
def folder(folders, tmp_path, request):
    """A copy of one, to spoil."""
    return shutil.copytree(folders / request.param, tmp_path / request.param)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nobody reaches out of the process."""

    def connect(*_args):
        RAN.append("a connection")
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    RAN.clear()
    yield
    assert not RAN


def refused(folder, match=None, **options):
    started = time.perf_counter()
    with pytest.raises((FileError, FileNotFoundError), match=match) as caught:
        metaprune.load(folder, **options)
    assert time.perf_counter() - started < 2
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "name", "edit"), ATTACKS.values(), ids=ATTACKS, indirect=["folder"]
)
def test_what_a_folder_names_is_in_tables_and_no_larger_than_its_tensors(folder, name, edit):
    change(folder, name, edit)
    refused(folder)
    if name == "program.json":
        refused(folder, trust=True)  # nothing is run where it is trusted either: there is none


def test_pickles_beside_the_tensors_are_not_read(folders, tmp_path):
    class Evil:
        def __reduce__(self):
            return RAN.append, ("a pickle",)

    folder = shutil.copytree(folders / "plain", tmp_path / "plain")
    for name in ("pytorch_model.bin", "program.pt2", "optimizer.pt"):
        torch.save(Evil(), folder / name)
    metaprune.load(folder)
    (folder / "model.safetensors").unlink()
    refused(folder)
    torch.save(Evil(), folder / "model.safetensors")
    refused(folder)
    assert not RAN


@pytest.mark.parametrize("kind", ["plain", "transformers"])
def test_the_hub_is_switched_off_while_a_folder_is_opened(folders, kind, monkeypatch):
    from huggingface_hub import constants
    from transformers import LlamaForCausalLM

    seen, make = [], LlamaForCausalLM.__init__

    def made(self, *args, **kwargs):
        seen.append(constants.HF_HUB_OFFLINE)
        make(self, *args, **kwargs)

    monkeypatch.setattr(LlamaForCausalLM, "__init__", made)
    before = constants.HF_HUB_OFFLINE
    metaprune.load(folders / kind)
    assert len(seen) == 2  # once without memory
    assert all(seen)
    assert constants.HF_HUB_OFFLINE is before


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def directory(path):
    path.unlink()
    path.mkdir()


def link(path):
    held = path.rename(path.parent.parent / path.name)
    path.symlink_to(held)


def loop(path):
    path.unlink()
    path.symlink_to(path)


def endless(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def empty(path):
    path.write_bytes(b"")


def long_header(path):
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")


def many_tensors(path):
    entry = {"dtype": "F32", "shape": [2**40, 0], "data_offsets": [0, 0]}
    header = json.dumps({f"t{i}": entry for i in range(2**16 + 1)}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def claimed(path):
    header = b'{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def sparse(path):
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 40)


def nested(path):
    path.write_text("[" * 10**6)


def many_lists(path):
    path.write_text("[" + "[]," * (10**6 + 1) + "[]]")


def twice(path):
    text = path.read_text()
    path.write_text(text.replace("{", '{"format": 7, ', 1))


def half(path):
    path.write_text('{"format": 1, "kind": "\\ud800"}')


def other_letters(path):
    path.write_bytes(path.read_text().encode("utf-16"))


PLACES = (pipe, directory, link, loop, endless, empty, sparse)


@pytest.mark.parametrize("folder", ["exported"], indirect=True)
@pytest.mark.parametrize("name", ["metaprune.json", "plan.json", "program.json"])
@pytest.mark.parametrize(
    "spoil",
    [
        pipe,
        directory,
        link,
        loop,
        endless,
        empty,
        sparse,
        nested,
        many_lists,
        twice,
        half,
        other_letters,
    ],
)
def test_texts_are_plain_files_in_the_folder(folder, name, spoil):
    spoil(folder / name)
    refused(folder)


@pytest.mark.parametrize("folder", ["exported"], indirect=True)
@pytest.mark.parametrize("name", ["model.safetensors"])
@pytest.mark.parametrize(
    "spoil",
    [pipe, directory, link, loop, endless, empty, sparse, long_header, many_tensors, claimed],
)
def test_tensors_are_plain_files_in_the_folder(folder, name, spoil):
    spoil(folder / name)
    refused(folder)


STEP = '{"format": 1, "pattern": "channels", "solver": "", "budget": "", %s}'


@pytest.mark.parametrize("folder", ["source"], indirect=True)
@pytest.mark.parametrize(
    "text",
    [
        '{"steps": [' + "{}," * 10**5 + "{}]}",
        '{"format": 1, "pattern": "os:system", "solver": "", "budget": ""}',
        STEP % '"kept": {"x": 3}',
        STEP % '"kept": {"x": {"of": 3, "keep": [0, 1.5]}}',
        STEP % '"density": {"x": NaN}',
        STEP % '"rank": {"1.weight": 1e9}',
        STEP % '"rank": {"1.weight": 1000000000}',
        STEP % '"moves": {"unties": 1}',
        STEP % '"asked": {"macs": {"a": []}}',
    ],
)  # fmt: skip
def test_plans_are_checked(folder, text):
    (folder / "plan.json").write_text(text)
    change(folder, "metaprune.json", put(["files", "plan.json"], file_digest(folder / "plan.json")))
    refused(folder)


@pytest.mark.parametrize("folder", ["exported", "source", "transformers", "plain"], indirect=True)
def test_a_flipped_bit_is_found_and_named(folder):
    for name in ("model.safetensors", "example.safetensors"):
        path = folder / name
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        header.pop("__metadata__")
        for tensor, about in header.items():
            begin, end = about["data_offsets"]
            place = start + random.Random(tensor).randrange(begin, end)
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            if (folder / "program.json").exists() and name != "model.safetensors":
                continue  # the example of a graph is for `dense` alone
            if json.loads((folder / "metaprune.json").read_text()).get("plain") and name[0] == "e":
                continue
            refused(folder, match=f'"{tensor}"')
        path.write_bytes(content)
    metaprune.load(folder)


@pytest.mark.parametrize("folder", ["exported"], indirect=True)
def test_tensors_of_other_names_and_types_are_refused(folder):
    state = {"first.weight": torch.zeros(2**20, dtype=torch.uint8)}
    save_file(state, folder / "model.safetensors")
    refused(folder)


def test_an_operator_of_another_package_is_run_only_where_it_is_trusted(tmp_path):
    @torch.library.custom_op("metaprune_hostile::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    double.register_fake(torch.empty_like)

    class Doubled(Anonymous):
        def forward(self, x):
            return super().forward(double(x))

    torch.manual_seed(0)
    model, x = Doubled().eval(), torch.randn(2, 6)
    result = metaprune.prune(model, (x,), target={"params": "80%"}, metanet=None)
    folder = result.save(tmp_path / "doubled")
    assert "trust=True" in (folder / "README.md").read_text()
    refused(folder, match=r"metaprune_hostile.double.default.*trust=True.*dense=")
    with torch.no_grad():
        assert torch.equal(metaprune.load(folder, trust=True)(x), result.model(x))
