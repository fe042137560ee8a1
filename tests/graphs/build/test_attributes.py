"""Which size an attribute restates: told by its value, by calls and tensors, and by its name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.build.attributes import Evidence, evidence, fields, is_width, readings, words

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
