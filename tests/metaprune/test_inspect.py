"""Inspection: what it says is counted, folded rightly, drawn whole, and survives JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from xml.etree import ElementTree

import networkx
import pytest
import torch
from torch import nn

import metaprune
from graphs import TraceError, trace
from graphs.axes.dims import EXACTNESS
from graphs.cost import count_macs, count_params
from metaprune.inspection import Inspection, Layer, folding, words
from metaprune.inspection.examples import from_model, from_shapes
from metaprune.inspection.flops import check
from metaprune.inspection.groups import floors
from metaprune.inspection.page import page
from metaprune.inspection.terminal import as_text
from metaprune.inspection.terminal import check as terminal_check
from metaprune.report.lanes import Lane, Stop, lanes
from tests.architectures import registry as architectures
from tests.metaprune.test_cli import run
from tests.oracles.networks.families import FAMILIES, build
from training.networks import cifar_resnet

__all__ = ["run"]


@pytest.fixture(scope="module")
def resnet() -> Inspection:
    return metaprune.inspect(cifar_resnet(20), (torch.randn(2, 3, 32, 32),))


@pytest.fixture(scope="module")
def llama() -> Inspection:
    return metaprune.inspect(*build("llama"))


def test_the_class_of_exactness_of_every_group_is_explained():
    assert set(words.MEANINGS) == set(EXACTNESS)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_torch_counts_the_same_in_every_module(name):
    model, inputs = build(name)
    net = trace(model, inputs)
    found, by_torch = check(net, model, inputs)
    assert found.failure == ""
    assert found.macs == count_macs(net)
    assert found.torch_macs == sum(by_torch.values())
    assert found.differences == ()
    assert found.agrees


ALIKE = (
    "densenet_121", "shufflenet_v2", "efficientnet_v2", "unet_transposed", "vnet_3d",
    "torch_transformer", "conformer", "set_transformer", "SwinForImageClassification",
    "T5ForConditionalGeneration", "WhisperForConditionalGeneration", "MambaForCausalLM",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ALIKE)
def test_torch_counts_the_same_on_known_architectures(name):
    model, inputs = architectures.build(name)
    wanted = [p.requires_grad for p in model.parameters()]
    found, _ = check(trace(model, inputs), model, inputs)
    assert found.agrees, found
    assert [p.requires_grad for p in model.parameters()] == wanted


class Products(nn.Module):
    """A recurrent layer, whose products only torch counts, and one that torch has no formula for.

    The product of a matrix and a vector is one of ours alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.a = nn.GRUCell(6, 8), nn.Linear(8, 5)
        self.v = nn.Parameter(torch.randn(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mv(self.a(self.rnn(x)), self.v)


def test_a_difference_is_told_with_its_reason():
    model, inputs = Products(), (torch.randn(3, 6),)
    net = trace(model, inputs)
    found, _ = check(net, model, inputs)
    assert not found.agrees
    why = {one.module: one for one in found.differences}
    assert (why[""].macs, why[""].torch_macs) == (5, 0)
    assert "only metaprune counts" in why[""].why
    without = dataclasses.replace(net, program=dataclasses.replace(net.program, costs=()))
    found, _ = check(without, model, inputs)
    why = {one.module: one for one in found.differences}
    assert why["a"].why == "metaprune does not count linear; torch counts its kernels, addmm"
    assert "agrees" not in terminal_check(metaprune.inspect(model, inputs))


@pytest.mark.parametrize("name", ["resnet_option_a", "dense_concatenation", "llama", "vit"])
def test_what_one_unit_saves_is_what_goes_with_it(name):
    net = trace(*build(name))
    found = metaprune.inspect(*build(name))
    dense = count_params(net), count_macs(net)
    for group in found.groups:
        small = net.remove(group.axis, [0])
        assert dense[0] - count_params(small) == group.params_saved
        assert abs(dense[1] - count_macs(small) - group.macs_saved) <= len(net.tensors)
        assert len(group.slices) == len(
            {(n, i) for g in net.groups() for n, i in g.tensors if g.axis.name == group.axis}
        )


def test_modules_and_layers_add_up(resnet, llama):
    for found in (resnet, llama):
        assert sum(m.params for m in found.modules.values()) == found.cost["params"]
        assert sum(m.macs for m in found.modules.values()) == found.cost["macs"]
        assert sum(layer.macs for layer in found.layers) == found.cost["macs"]
        axes = {n["id"] for n in found.graph["nodes"] if n["kind"] == "axis"}
        assert {a for layer in found.layers for a in (*layer.reads, *layer.writes)} <= axes


def test_layers_stand_in_the_order_of_the_forward_with_their_place(resnet):
    names = [layer.name for layer in resnet.layers]
    assert names[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert names[-1] == "linear"
    assert all("residual.py:" in layer.place for layer in resnet.layers)
    first = resnet.layers[1]
    assert (first.reads, first.writes) == (("conv1.out",), ("layer1.0.conv1.out",))


def test_the_reachable_range_can_be_built(resnet):
    model, inputs = cifar_resnet(20), (torch.randn(2, 3, 32, 32),)
    net = trace(model, inputs)
    least = floors(net, 0.05)
    small = net.remove({n: range(k, net.axes[n].size) for n, k in least.items()})
    assert resnet.reachable["params"] == (count_params(small), count_params(net))
    assert resnet.reachable["macs"] == (count_macs(small), count_macs(net))
    assert resnet.reachable["speedup"][1] == pytest.approx(count_macs(net) / count_macs(small))
    assert resnet.reachable["sparsity"][0] == 0
    assert resnet.reachable["units"] == (sum(least.values()), resnet.cost["units"])
    assert set(resnet.reachable) == {"macs", "params", "size_mb", "units", "sparsity", "speedup"}


def test_latency_is_measured_when_asked():
    found = metaprune.inspect(*build("mlp"), latency=3)
    low, high = found.reachable["latency_ms"]
    assert 0 < low <= high
    assert "latency" in str(found)


def test_what_is_left_alone_is_grouped_by_reason_with_its_place():
    class Running(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.special.bessel_j1(self.a(x))
            return self.c(torch.special.bessel_j1(self.b(y)))

    found = metaprune.inspect(Running(), (torch.randn(2, 4),))
    (ours,) = [one for one in found.left_alone if one.reason == "no rule for the operator"]
    assert ours.operator == "aten.special_bessel_j1.default"
    assert ours.axes == ("a.out", "b.out")
    assert len(ours.places) == 2
    assert all(re.fullmatch(r".*test_inspect\.py:\d+", place) for place in ours.places)
    assert "graphs/rules" in ours.remedy
    assert "special_bessel_j1" in str(found)
    assert sum(len(one.axes) for one in found.left_alone) == sum(
        bool(n["frozen"]) for n in found.graph["nodes"] if n["kind"] == "axis"
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["layers.0.a", "layers.1.a", "layers.2.a", "head"], ["layers.0–2.a", "head"]),
        (["l.0.a", "l.2.a"], ["l.{0, 2}.a"]),
        (["l.0.e.0", "l.0.e.1", "l.1.e.0", "l.1.e.1"], ["l.0–1.e.0–1"]),
        (["l.0.e.0", "l.1.e.1"], ["l.0.e.0", "l.1.e.1"]),
        (["conv1", "conv2"], ["conv1", "conv2"]),
        ([], []),
    ],
)
def test_names_fold_only_where_every_number_occurs(names, expected):
    assert words.folded(names) == expected


def test_repeated_blocks_are_drawn_once(resnet, llama):
    def short(found: Inspection) -> list[folding.Row]:
        axes = {n["id"]: (n["size"], n["frozen"]) for n in found.graph["nodes"] if "units" in n}
        return folding.rows(found.layers, axes)

    rows = short(resnet)
    assert [r.label for r in rows][:3] == ["conv1", "layer1.0–2.conv1", "layer1.0–2.conv2"]
    assert sum(r.times for r in rows) == len(resnet.layers)
    assert sum(r.times * r.layer.macs for r in rows) == resnet.cost["macs"]
    folded = short(llama)
    assert {r.times for r in folded if r.block} == {2}
    assert sum(r.times for r in folded) == len(llama.layers)


def layer(name: str, reads: str, writes: str, macs: int = 1) -> Layer:
    return Layer(name, name, "linear", "", tuple(reads), tuple(writes), macs, 1)


def test_blocks_that_differ_inside_are_not_folded():
    same = [layer("l.0.x", "a", "b"), layer("l.0.y", "b", "a"),
            layer("l.1.x", "a", "c"), layer("l.1.y", "c", "a")]  # fmt: skip
    axes = dict.fromkeys("abc", 4)
    assert [r.label for r in folding.rows(same, axes)] == ["l.0–1.x", "l.0–1.y"]
    assert len(folding.rows(same, {**axes, "c": 5})) == 4
    chain = [layer("l.0", "a", "b"), layer("l.1", "b", "c")]
    assert len(folding.rows(chain, axes)) == 2
    uneven = [same[0], same[1], same[2], layer("l.1.y", "c", "a", macs=2)]
    assert len(folding.rows(uneven, axes)) == 4
    nameless = [layer("1 · einsum", "a", "b"), layer("2 · einsum", "a", "c")]
    assert [r.label for r in folding.rows(nameless, axes)] == ["1–2 · einsum"]


def test_the_drawing_has_every_layer_and_every_axis(resnet):
    axes = {
        n["id"]: Lane(n["size"], n["units"], bool(n["frozen"]), "")
        for n in resnet.graph["nodes"]
        if n["kind"] == "axis"
    }
    stops = [Stop(s.name, "", s.reads, s.writes, s.macs, s.params) for s in resnet.layers]
    svg = ElementTree.fromstring(lanes(stops, axes))
    touched = {a for s in stops for a in (*s.reads, *s.writes)}
    drawn = [p for p in svg.iter("path") if p.get("class", "").startswith("lane")]
    assert len(drawn) == len(touched)
    assert len(list(svg.iter("g"))) == len(stops)
    xs = {}
    for path in drawn:
        x, top, bottom = map(float, re.findall(r"[\d.]+", path.get("d", "")))
        assert all(top > b or bottom < t for t, b in xs.get(x, ())), "two lanes in one place"
        xs.setdefault(x, []).append((top, bottom))
    assert ElementTree.fromstring(lanes([], {})).tag == "svg"


def test_json_is_the_whole_of_it(resnet, llama):
    for found in (resnet, llama):
        assert Inspection.from_json(found.to_json()) == found
        content = json.loads(found.to_json())
        assert set(content) == {f.name for f in dataclasses.fields(Inspection)}
        for key, kind in KINDS.items():
            assert isinstance(content[key], kind), key
        assert set(content["groups"][0]) == {f.name for f in dataclasses.fields(found.groups[0])}


KINDS = {
    "format": int, "model": str, "inputs": str, "cost": dict, "reachable": dict,
    "min_units": float, "groups": list, "exactness": dict, "left_alone": list, "modules": dict,
    "layers": list, "check": dict, "graph": dict, "notes": list, "seconds": dict,
}  # fmt: skip
"""Keys of the document and their types, as docs/inspect.md has them."""


@pytest.mark.parametrize("text", ["", "[]", '{"format": 99}', '{"format": 1, "what": 2}'])
def test_other_documents_are_refused(text):
    with pytest.raises(ValueError, match="inspection"):
        Inspection.from_json(text)


def test_a_folder_is_saved_whole(resnet, tmp_path):
    folder = resnet.save(tmp_path / "out")
    assert {p.name for p in folder.iterdir()} == {
        "inspection.html", "inspection.json", "graph.graphml",
    }  # fmt: skip
    assert Inspection.from_json((folder / "inspection.json").read_text()) == resnet
    graph = networkx.read_graphml(folder / "graph.graphml")
    assert graph.nodes["conv1.out"]["size"] == 16
    assert graph.has_edge("conv1.weight", "conv1.out")
    html = (folder / "inspection.html").read_text()
    assert html == page(resnet)
    assert "<svg" in html
    assert not re.search(r"https?://|<script|<link|@import", html)
    with pytest.raises(FileExistsError):
        resnet.save(folder)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_text_fits_the_terminal(resnet, llama, width):
    for found in (resnet, llama):
        text = as_text(found, width)
        assert max(map(len, text.splitlines())) <= width
        for title in ("May be pruned", "Left alone", "Reachable", "Where the cost is"):
            assert title in text
    assert "layer1.0–2.conv1.out: 16 channels each, × 3, exact" in str(resnet)
    assert "removing one cuts 6 slices, saves 290 parameters and 295k MACs" in str(resnet)


def test_no_weights_are_needed():
    with torch.device("meta"):
        model = cifar_resnet(20)
    found = metaprune.inspect(model, (torch.empty(2, 3, 32, 32, device="meta"),))
    real = metaprune.inspect(cifar_resnet(20), (torch.randn(2, 3, 32, 32),))
    assert found.groups == real.groups
    assert found.reachable == real.reachable
    assert found.check == real.check
    assert any("meta device" in note for note in found.notes)
    with pytest.raises(ValueError, match="meta device"):
        metaprune.inspect(model, (torch.empty(2, 3, 32, 32, device="meta"),), latency=2)


def test_a_transformers_configuration_is_enough(run, tmp_path):
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=50, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    config.save_pretrained(tmp_path / "only")
    hf = ["model=hf", f"model.path={tmp_path / 'only'}", "model.meta=true"]
    code, out, errors = run("inspect", "--json", *hf, "inputs={input_ids: [1, 12]}")
    assert code == 0, errors
    found = Inspection.from_json(out)
    assert found.inputs == "int64[1, 12]"
    assert found.check.agrees
    assert {g.units for g in found.groups if g.axis.endswith("mlp.gate_proj.out")} == {96}


def test_hooks_ties_and_unused_parameters_are_remarked():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    model[0].register_forward_hook(lambda module, args, out: out * 2)
    model.register_parameter("spare", nn.Parameter(torch.ones(3)))
    notes = " ".join(metaprune.inspect(model, (torch.randn(2, 4),)).notes)
    assert "hooks on 0" in notes
    assert "does not use spare" in notes
    assert "lm_head.weight" in " ".join(metaprune.inspect(*build("llama")).notes)


def test_a_wrapper_is_looked_through():
    model, inputs = build("mlp")
    assert metaprune.inspect(nn.DataParallel(model), inputs).groups[0].axis == "0.out"


def test_a_model_that_cannot_be_traced_is_refused():
    with pytest.raises(TraceError, match="does not run"):
        metaprune.inspect(nn.Linear(3, 3), (torch.ones(1, 4),))


def test_example_inputs_come_from_shapes_or_from_the_model():
    model, _ = build("vit")
    assert from_model(model)["pixel_values"].shape == (1, 3, 8, 8)
    assert from_model(build("llama")[0])["input_ids"].shape == (1, 32)
    (x,) = from_shapes([2, 3, 8, 8], model.bfloat16())
    assert x.dtype is torch.bfloat16
    mask = from_shapes({"attention_mask": [1, 5]}, model)["attention_mask"]
    assert mask.dtype is torch.int64
    for wrong in ("abc", [], [0, 3], 5):
        with pytest.raises(ValueError, match="inputs="):
            from_shapes(wrong, model)
    with pytest.raises(ValueError, match="say what the model reads"):
        from_model(nn.Linear(2, 2))


def test_the_command_writes_its_folder_and_says_where(run):
    code, out, errors = run("inspect", "model=resnet20", "model.path=null", "out=found")
    assert code == 0, errors
    assert "found/inspection.html" in out
    code, _, errors = run("inspect", "model=resnet20", "model.path=null", "out=found")
    assert code == 1
    assert "exists and is not empty" in errors
    code, _, errors = run(
        "inspect", "model=function", "model.function=torch.nn:Linear",
        "+model.options.in_features=2", "+model.options.out_features=2",
    )  # fmt: skip
    assert code == 1
    assert "inputs=[" in errors
