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
from torch import nn

import metaprune
from graphs.tools.digests import file_digest
from graphs.tools.documents import FileError
from metaprune.saving.folder import sealed

FAMILY = {
    "source": "family", "family": "mlp", "shape": [1, 4, 4], "outputs": 3,
    "options": {"widths": [12, 8], "act": "relu", "norm": "none"},
}  # fmt: skip
RAN: list[str] = []


class Anonymous(nn.Module):
    """A class that nothing can import again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.second(self.first(x).relu())


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, vocab_size=32, use_cache=False,
        )
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder of every kind."""
    from training import sources

    here = tmp_path_factory.mktemp("folders")
    torch.manual_seed(0)
    ids = {"input_ids": torch.arange(12).reshape(2, 6)}
    options = {"target": {"params": "70%"}, "metanet": None}
    result = metaprune.prune(Anonymous().eval(), (torch.randn(2, 6),), **options)
    result.save(here / "exported")
    model = sources.load(**FAMILY)
    result = metaprune.prune(model, (torch.randn(2, 1, 4, 4),), **options)
    result.save(here / "source", source=FAMILY)
    metaprune.prune(llama(), ids, **options).save(here / "transformers")
    metaprune.prune(llama(), ids, pattern="2:4", metanet=None).save(here / "plain")
    return here


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


def change(folder, name, edit):
    """Edit a JSON file of a folder, as its author would: with the digests that belong to it."""
    content = json.loads((folder / name).read_text())
    edit(content)
    how = json.loads((folder / "metaprune.json").read_text())
    if name == "metaprune.json":
        how = content
    else:
        (folder / name).write_text(json.dumps(content))
        how["files"][name] = file_digest(folder / name)
    (folder / "metaprune.json").write_text(json.dumps(sealed(how)))


def refused(folder, match=None, **options):
    started = time.perf_counter()
    with pytest.raises((FileError, FileNotFoundError), match=match) as caught:
        metaprune.load(folder, **options)
    assert time.perf_counter() - started < 2
    assert str(folder) in str(caught.value)


def node(place, *entry):
    return lambda content: content["graph"]["nodes"].__setitem__(place, list(entry))


def put(path, value):
    """An edit that sets one value, named by its keys."""
    *keys, last = path

    def edit(content):
        for key in keys:
            content = content[key]
        content[last] = value

    return edit


GRAPHS = {
    "file": node(6, "call", "aten.from_file.default", ["/etc/passwd"]),
    "saved": node(6, "call", "aten.save.default", [{"node": 5}, "/tmp/written"]),
    "memory": node(6, "call", "aten.set_.source_Tensor", [{"node": 5}, {"node": 4}]),
    "python": node(6, "call", "os.system", ["id"]),
    "builtin": node(6, "call", "builtins.eval", ["1"]),
    "attribute": node(6, "call", "aten.relu.__class__", [{"node": 5}]),
    "dunder": node(6, "call", "aten.__class__.default", [{"node": 5}]),
    "packages": node(6, "call", "load_library.x.y", ["/tmp/x.so"]),
    "printed": node(6, "call", "higher_order.print", ["{}", {}]),
    "no name": node(6, "call", ["aten.relu.default"], [{"node": 5}]),
    "later": node(6, "call", "aten.relu.default", [{"node": 99}]),
    "negative": node(6, "call", "aten.relu.default", [{"node": -1}]),
    "number": node(6, "call", "aten.relu.default", [{"node": True}]),
    "deep": node(6, "call", "aten.relu.default", json.loads("[" * 900 + "]" * 900)),
    "keyword": node(6, "call", "aten.relu.default", [], {"dict": {"x=__import__('os')": 1}}),
    "dtype": node(6, "call", "aten.relu.default", [{"dtype": "float32 or exit()"}]),
    "method": node(6, "call_method", "__reduce__", []),
    "tensor": node(0, "tensor", "__init__.__globals__"),
    "graph": node(0, "graph", "first"),
    "input": node(4, "input", "x, y=__import__('os').system('id')"),
    "self": node(4, "input", "self"),
    "names": put(["names"], ["x=print(1)"]),
    "two names": put(["names"], ["x", "x"]),
    "no names": put(["names"], []),
    "alias": put(["aliases", 'first"); import os; ("weight'], "first.weight"),
    "taken": put(["aliases", "forward.weight"], "first.weight"),
    "dotted": put(["aliases", "__class__.weight"], "first.weight"),
    "word": put(["aliases", "lambda.weight"], "first.weight"),
    "missing": put(["aliases", "third.weight"], "third.weight"),
    "constant": put(["constants"], ["nowhere"]),
    "object": put(["outputs"], {"object": ["builtins.object", None, ["*"]]}),
    "default": put(["outputs"], {"object": ["collections.defaultdict", ["os", []], ["*"]]}),
    "module": put(["outputs"], {"object": ["transformers.modeling_outputs.x", [], ["*"]]}),
    "keys": put(["inputs"], {"tuple": [{"tuple": []}, {"dict": {"x': exit()}, 'y": "*"}}]}),
    "spec": put(["inputs"], json.loads('{"tuple":[' * 300 + '"*"' + "]}" * 300)),
    "two outputs": put(["outputs"], {"tuple": ["*", "*"]}),
    "empty": put(["graph", "nodes"], []),
    "no graph": put(["graph"], None),
    "format": put(["format"], 99),
    "list": put(["aliases"], ["first.weight"]),
    "inner": put(["graph", "graphs"], {"a.b": {"nodes": [["output", None]], "graphs": {}}}),
}


@pytest.mark.parametrize("folder", ["exported"], indirect=True)
@pytest.mark.parametrize("edit", GRAPHS.values(), ids=GRAPHS)
def test_graphs_call_nothing_but_what_is_in_the_table(folder, edit):
    change(folder, "program.json", edit)
    refused(folder)
    refused(folder, trust=True)  # code is not run where it is trusted either: there is none


WIDTHS = ["dense", "architecture", "source", "options", "widths"]
HOWS = {
    "huge width": ("source", WIDTHS, [10**9]),
    "huge input": ("source", ["dense", "architecture", "source", "shape"], [10**6, 10**6, 10**6]),
    "many layers": ("source", WIDTHS, [4] * 10**6),
    "no family": ("source", ["dense", "architecture", "source", "family"], "os"),
    "checkpoint": ("source", ["dense", "architecture", "source", "path"], "/etc/passwd"),
    "negative": ("source", ["dense", "architecture", "source", "outputs"], -3),
    "text": ("source", ["dense", "architecture", "source", "outputs"], "3; import os"),
    "kind": ("source", ["kind"], "pickle"),
    "other kind": ("source", ["kind"], "transformers"),
    "no example": ("source", ["example"], None),
    "other example": ("source", ["example"], {"args": [{"tensor": "nowhere"}], "kwargs": {}}),
    "nested example": (
        "source", ["example"],
        {"args": [json.loads('{"list":[' * 200 + '{"value":1}' + "]}" * 200)], "kwargs": {}},
    ),
    "masked": ("source", ["masked"], ["__class__"]),
    "format": ("source", ["format"], 2),
    "buffer": ("source", ["unsaved"], {"x": "float32; exit()"}),
    "class": ("transformers", ["dense", "architecture", "class"], "pipeline"),
    "no class": ("transformers", ["dense", "architecture", "class"], "AutoModel"),
    "library": ("transformers", ["dense", "architecture", "class"], "os"),
    "attention": ("transformers", ["dense", "architecture", "attention"], "evil/kernels"),
    "code": (
        "transformers", ["dense", "architecture", "config", "auto_map"],
        {"AutoModel": "evil/repository--modeling.Model"},
    ),
    "code inside": (
        "transformers", ["dense", "architecture", "config", "text_config"],
        {"auto_map": {"AutoModel": "evil/repository--modeling.Model"}},
    ),
    "quantizer": (
        "transformers", ["dense", "architecture", "config", "quantization_config"],
        {"quant_method": "hqq"},
    ),
    "wide": ("transformers", ["dense", "architecture", "config", "hidden_size"], 2**20),
    "deep": ("transformers", ["dense", "architecture", "config", "num_hidden_layers"], 10**8),
    "words": ("transformers", ["dense", "architecture", "config", "vocab_size"], 10**11),
    "rope": ("transformers", ["dense", "architecture", "config", "head_dim"], 2**31),
    "heads": ("transformers", ["dense", "architecture", "config", "num_attention_heads"], 0),
    "activation": ("transformers", ["dense", "architecture", "config", "hidden_act"], "__import__"),
    "config": ("transformers", ["dense", "architecture", "config"], []),
    "plain class": ("plain", ["dense", "architecture", "class"], "GPT2LMHeadModel"),
    "plain attention": ("plain", ["dense", "architecture", "attention"], "evil/kernels:x"),
    "no architecture": ("plain", ["dense", "architecture"], None),
}  # fmt: skip


@pytest.mark.parametrize(("folder", "path", "value"), HOWS.values(), ids=HOWS, indirect=["folder"])
def test_what_a_folder_names_is_looked_up_in_tables_and_is_no_larger_than_its_tensors(
    folder, path, value
):
    change(folder, "metaprune.json", put(path, value))
    refused(folder)


CONFIGS = {
    "deep": {"num_hidden_layers": 10**7},
    "wide": {"intermediate_size": 10**9},
    "code": {"auto_map": {"AutoConfig": "evil/repository--config.Config"}},
    "quantizer": {"quantization_config": {"quant_method": "awq"}},
    "one layer more": {"num_hidden_layers": 3},
}


@pytest.mark.parametrize("folder", ["plain"], indirect=True)
@pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS)
def test_configurations_of_transformers_are_compared_with_the_tensors(folder, fields):
    change(folder, "config.json", lambda content: content.update(fields))
    refused(folder)


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


def sparse(path):
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 40)


def nested(path):
    path.write_text("[" * 10**6)


def twice(path):
    text = path.read_text()
    path.write_text(text.replace("{", '{"format": 7, ', 1))


def half(path):
    path.write_text('{"format": 1, "kind": "\\ud800"}')


def other_letters(path):
    path.write_bytes(path.read_text().encode("utf-16"))


@pytest.mark.parametrize("folder", ["exported"], indirect=True)
@pytest.mark.parametrize("name", ["metaprune.json", "plan.json", "program.json"])
@pytest.mark.parametrize(
    "spoil",
    [pipe, directory, link, loop, endless, empty, sparse, nested, twice, half, other_letters],
)
def test_texts_are_plain_files_in_the_folder(folder, name, spoil):
    spoil(folder / name)
    refused(folder)


@pytest.mark.parametrize("folder", ["exported"], indirect=True)
@pytest.mark.parametrize("name", ["model.safetensors"])
@pytest.mark.parametrize(
    "spoil", [pipe, directory, link, loop, endless, empty, sparse, long_header]
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
