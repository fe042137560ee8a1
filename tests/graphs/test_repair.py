"""Which size an attribute restates: told by its value, by calls and tensors, and by its name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.build.attributes import Evidence, evidence, fields, is_width, readings, words
from graphs.build.compare import agree, informative, lively, resized
from graphs.build.configs import configs
from graphs.build.layers import restate
from graphs.build.rebuild import graph_model, rebuild
from graphs.build.search import following
from graphs.calls.running import outputs
from tests.graphs.families import FAMILIES, build

# A module with four heads of four features, of which one goes; two share keys and values.
HEADS = [
    Evidence(16, 13, "stream"),
    Evidence(4, 3, "heads"),
    Evidence(4, 4, "feature"),
    Evidence(16, 12, "joint"),
    Evidence(2, 1, "fewest"),
    Evidence(2, 2, "inner"),
]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("num_heads", 4, 3),
        ("n_head", 4, 3),
        ("num_attention_heads", 4, 3),
        ("head_dim", 4, 4),
        ("attention_head_size", 4, 4),
        ("dim_head", 4, 4),
        ("d_kv", 4, 4),
        ("num_key_value_heads", 2, 1),
        ("n_kv_heads", 2, 1),
        ("num_key_value_groups", 2, 2),
        ("n_rep", 2, 2),
        ("hidden_size", 16, 13),
        ("embed_dim", 16, 13),
        ("d_model", 16, 13),
        ("all_head_size", 16, 12),
        ("split_size", 16, 12),
        ("inner_dim", 16, 12),
    ],
)
def test_names_decide_where_values_do_not(name, old, new):
    assert readings(name, old, HEADS)[0] == new


def test_sequences_are_read_whole_before_they_are_read_piece_by_piece():
    entries = [Evidence((8, 8, 4), (6, 7, 4), "call"), Evidence(8, 6, "call")]
    assert readings("sizes", (8, 8, 4), entries) == [(6, 7, 4), (6, 6, 4)]
    assert readings("sizes", [8, 3], entries) == [[6, 3]]
    assert readings("width", 5, entries) == []


def test_words_of_names():
    assert words("num_kv_heads") == ("num", "kv", "heads")
    assert words("numKVHeads2")[0] == "num"


@pytest.mark.parametrize(
    ("name", "width"),
    [
        *(("hidden_size", True), ("num_heads", True), ("time_step_rank", True)),
        *(("layer_idx", None), ("window_size", None), ("block_width", None), ("anything", False)),
        *(("pdim", True), ("expand_chs", True), ("nheads", True)),
    ],
)
def test_the_last_word_of_a_name_tells_what_it_states(name, width):
    assert is_width(name) is width


def test_positions_and_kernels_are_not_widths():
    class Numbered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer_idx = self.kernel_size = self.max_positions = self.steps = 8
            self.width, self.plain = 8, 8
            self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.down(self.up(x).view(-1, self.width).relu())

    net = trace(Numbered().eval(), (torch.randn(2, 4),)).remove("up.out", [0])
    found = {field.name: field for field in fields(net.source.model, evidence(net))}
    width = found.pop("width")
    assert width.named is True
    assert found.pop("plain").named is False  # Only because a call of the module has that size.
    # The last to be tried, where nothing else fits.
    assert {f.named for f in found.values()} == {None}
    assert width.repairs(0) == [("", "width", 8, 7)]
    model = net.to_model()
    assert (model.layer_idx, model.kernel_size, model.plain, model.width) == (8, 8, 8, 7)


def test_a_configuration_says_what_all_modules_agree_on():
    class Part(nn.Module):
        def __init__(self, config: SimpleNamespace) -> None:
            super().__init__()
            self.config = config
            self.up, self.down = nn.Linear(6, 10), nn.Linear(10, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.down(self.up(x).relu())

    config = SimpleNamespace(hidden_size=6, intermediate_size=10, num_layers=10, name="part")
    model = nn.Sequential(nn.Linear(4, 6), Part(config), Part(config), nn.Linear(6, 3)).eval()
    net = trace(model, (torch.randn(2, 4),))
    (same,) = configs(model, evidence(net.remove({"1.up.out": [0], "2.up.out": [3], "0.out": [1]})))
    assert set(same.repairs) == {
        ("1.config", "hidden_size", 6, 5),
        ("1.config", "intermediate_size", 10, 9),
    }
    (other,) = configs(model, evidence(net.remove({"1.up.out": [0], "2.up.out": [3, 4]})))
    assert other.varied == {"intermediate_size": {"1": 9, "2": 8}}
    assert [(p, values) for p, _, values in other.copies()] == [
        ("1", {"intermediate_size": 9}),
        ("2", {"intermediate_size": 8}),
    ]


@pytest.mark.parametrize(
    ("layer", "change", "expected"),
    [
        (nn.Linear(4, 6), {"weight": (5, 3)}, {"in_features": 3, "out_features": 5}),
        (nn.Conv2d(4, 6, 3), {"weight": (5, 2, 3, 3)}, {"in_channels": 2, "out_channels": 5}),
        (nn.ConvTranspose1d(4, 6, 3), {"weight": (3, 5, 3)}, {"in_channels": 3, "out_channels": 5}),
        (nn.LayerNorm(6), {"weight": (4,)}, {"normalized_shape": (4,)}),
        (nn.BatchNorm1d(6), {"weight": (4,)}, {"num_features": 4}),
        (nn.GroupNorm(2, 6), {"weight": (4,)}, {"num_channels": 4}),
        (nn.Embedding(9, 6), {"weight": (9, 4)}, {"embedding_dim": 4}),
        (nn.Bilinear(3, 4, 5), {"weight": (2, 3, 4)}, {"out_features": 2}),
        (
            nn.LSTM(6, 5),
            {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4)},
            {"input_size": 3, "hidden_size": 4},
        ),
        (
            nn.GRUCell(6, 5),
            {"weight_ih": (12, 3), "weight_hh": (12, 4)},
            {"input_size": 3, "hidden_size": 4},
        ),
    ],
)
def test_layers_of_torch_say_what_their_tensors_say(layer, change, expected):
    assert list(restate(layer)) == []
    for name, shape in change.items():
        layer._parameters[name] = nn.Parameter(torch.zeros(shape))
    assert {field: new for field, _, new in restate(layer)} == expected
    assert {field: getattr(layer, field) for field in expected} == expected


def test_outputs_that_differ_do_not_agree():
    one = [torch.arange(6.0).reshape(2, 3)]
    assert agree(one, [one[0] + 1e-5])
    assert not agree(one, [one[0] + 0.1])
    assert not agree(one, [one[0][:, :2]])
    assert not agree(one, [one[0].double()])
    assert not agree(one, [*one, *one])
    assert not agree(ValueError("no"), ValueError("no"))
    assert not agree([torch.tensor([1, 2])], [torch.tensor([1, 3])])
    assert agree([torch.zeros(2, device="meta")], [torch.zeros(2, device="meta")])


def test_outputs_that_tell_nothing_are_not_informative():
    assert informative([torch.tensor([1.0, 2.0])])
    assert not informative([torch.tensor([1.0, float("nan")])])
    assert not informative([torch.zeros(3)])
    assert not informative(ValueError("no"))


def test_the_number_of_examples_changes_and_nothing_else():
    mask, flag = torch.ones(7), True
    (x, same, third), kwargs = resized(((torch.arange(6).reshape(2, 3), mask, flag), {}), 2)
    assert x.tolist() == [[0, 1, 2], [3, 4, 5], [0, 1, 2]]
    assert same is mask
    assert third is True
    assert kwargs == {}
    assert resized(((torch.ones(5, 1),), {}), 5)[0][0].shape == (2, 1)


def test_the_callers_random_numbers_are_left_alone():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    outputs(model, ((torch.ones(1, 3),), {}))
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_random_weights_tell_models_apart(name):
    """Whatever the initialisation: outputs are finite, not all alike, and not the model's own."""
    model, inputs = build(name)
    net = trace(model, inputs)
    made = net.to_model()
    tensors = dict(made.named_parameters()) | dict(made.named_buffers())
    for key, value in lively(net).items():
        tensors[key].data = value
    found = outputs(made, net.source.example)
    assert informative(found)
    assert not agree(found, outputs(model, net.source.example))


class Views(nn.Module):
    """Its one attribute restates what it reads, or what it makes."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 8), nn.Linear(8, 8)
        self.dim, self.reads = 8, reads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, self.dim if self.reads else x.shape[-1])
        y = self.up(x)
        return x + self.down(y.view(-1, y.shape[-1] if self.reads else self.dim).relu())


def test_one_name_is_read_in_another_way_in_another_module():
    torch.manual_seed(0)
    parts = [Views(True), Views(False), Views(True), Views(False)]
    model = nn.Sequential(nn.Linear(5, 8), *parts, nn.Linear(8, 3)).eval()
    x = torch.randn(2, 5)
    net = trace(model, (x,))
    small = net.remove({"0.out": [1], **{f"{i}.up.out": [0, 2] for i in range(1, 5)}})
    made = rebuild(small)
    assert type(made.model) is nn.Sequential
    assert [made.model[i].dim for i in range(1, 5)] == [7, 6, 7, 6]
    torch.testing.assert_close(made.model(x), graph_model(small)(x))


def test_how_far_a_forward_came():
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(5, 2)))
    with following(model) as progress:
        failure = outputs(model, ((torch.randn(2, 3),), {}))
    assert isinstance(failure, RuntimeError)
    assert progress.inside == ["", "1", "1.1"]
    assert progress.ended == 2
    with following(model[0]) as progress:
        model[0](torch.randn(2, 3))
    assert (progress.inside, progress.ended) == ([], 1)
    with following(model[1]) as progress:
        model[0](torch.randn(2, 3))
    assert progress.ended == 0
