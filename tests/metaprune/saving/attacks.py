"""Folders that mean harm: what their authors may write into them, with digests that fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import metaprune
from graphs.tools.digests import file_digest
from metaprune.saving.folder import sealed
from training import sources

FAMILY = {
    "source": "family", "family": "mlp", "shape": [1, 4, 4], "outputs": 3,
    "options": {"widths": [12, 8], "act": "relu", "norm": "none"},
}  # fmt: skip


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


def write_folders(here: Path) -> Path:
    """One folder of every kind, by its name."""
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
    "long": lambda content: content["graph"].update(nodes=content["graph"]["nodes"] * 3000),
    "unicode": node(4, "input", "ｅxec"),
    "line": put(["aliases", "first.weight\n"], "first.weight"),
    "inner": put(["graph", "graphs"], {"a.b": {"nodes": [["output", None]], "graphs": {}}}),
}


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
    "other positions": (
        "transformers", ["dense", "architecture"],
        {"class": "GPT2LMHeadModel", "attention": "eager", "config": {"n_positions": 10**6}},
    ),
    "other library": (
        "transformers", ["dense", "architecture"],
        {"class": "TimmWrapperModel", "attention": None, "config": {"architecture": "hf-hub:a/b"}},
    ),
    "no architecture": ("plain", ["dense", "architecture"], None),
}  # fmt: skip


CONFIGS = {
    "deep": {"num_hidden_layers": 10**7},
    "wide": {"intermediate_size": 10**9},
    "code": {"auto_map": {"AutoConfig": "evil/repository--config.Config"}},
    "quantizer": {"quantization_config": {"quant_method": "awq"}},
    "one layer more": {"num_hidden_layers": 3},
}


def attacks() -> dict[str, tuple[str, str, Callable[[Any], object]]]:
    """Name → kind of folder, file of it, and what is done to its content."""
    found = {f"graph, {name}": ("exported", "program.json", edit) for name, edit in GRAPHS.items()}
    for name, (kind, path, value) in HOWS.items():
        found[f"{kind}, {name}"] = (kind, "metaprune.json", put(path, value))
    for name, fields in CONFIGS.items():
        found[f"config, {name}"] = ("plain", "config.json", partial(_update, fields))
    return found


def _update(fields: dict[str, Any], content: dict[str, Any]) -> None:
    content.update(fields)
