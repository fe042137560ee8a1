"""Tiles, blocks and checkpoints change memory, never results."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from metanet.tables.layout import build_layout
from metanet.tables.matrices import CHANGED
from metanet.tables.tiles import SMALL, WASTE
from tests.metanet.conftest import NAMES, assert_same, evidence, flat, network, trained


@pytest.mark.parametrize("tile", [1, 60, 700])
@pytest.mark.parametrize("name", NAMES)
def test_tiles_make_no_difference(name, tile):
    net = network(name)
    proof = evidence(net)
    whole, tiled = trained("streaming"), trained("streaming", tile=tile)
    assert tile > 1 or len(tiled.layout(net).blocks) > len(whole.layout(net).blocks)
    with torch.no_grad():
        assert_same(whole(net, proof, 0.5), tiled(net, proof, 0.5), atol=1e-12)


@pytest.mark.parametrize("tile", [2**20, 200])
def test_checkpoints_make_no_difference(tile):
    net = network("resnet_option_a")
    grads = []
    for above in (2**40, 0):
        meta = trained("streaming", tile=tile, checkpoint_above=above)
        out = flat(meta(net, evidence(net), 0.5))
        sum(t.sin().sum() for t in out.values()).backward()
        grads.append({n: p.grad for n, p in meta.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("tile", [1, 60, 2**20])
@pytest.mark.parametrize("name", NAMES)
def test_blocks_hold_every_row_once_and_little_padding(name, tile):
    layout = build_layout(network(name), tile=tile, dtype=torch.float64)
    rows = {i: [] for i in range(len(layout.matrices))}
    for block in layout.blocks:
        assert len(block.tiles) == block.shape[0]
        assert block.entries <= max(tile, block.shape[1] * block.shape[3])
        for t in block.tiles:
            rows[t.tensor] += range(t.start, t.stop)
            m = layout.matrices[t.tensor]
            assert (m.taps, m.role in CHANGED) == (block.taps, block.changed)
        real = int(block.extent.prod(1).sum()) * block.shape[1]
        assert block.entries <= max(WASTE * real, SMALL)
    assert {i: sorted(found) for i, found in rows.items()} == {
        i: list(range(m.rows)) for i, m in enumerate(layout.matrices)
    }


@pytest.mark.parametrize("name", NAMES)
def test_messages_are_means_over_tensors_and_positions(name):
    """Shares of the positions of a unit sum to one over everything that produces it."""
    layout = build_layout(network(name), tile=100, dtype=torch.float64)
    for side in ("row", "col"):
        total = torch.zeros(layout.units + 1, dtype=torch.float64)
        for block in layout.blocks:
            if block.messages:
                table, weight = getattr(block, f"{side}s"), getattr(block, f"{side}_weight")
                # Columns come back in every tile of rows, with a part of the same sum.
                fresh = torch.tensor([side == "row" or t.start == 0 for t in block.tiles])
                total.index_add_(0, table[fresh].reshape(-1), weight[fresh].reshape(-1))
        reached = total[total != 0]
        assert len(reached)
        torch.testing.assert_close(reached, torch.ones_like(reached))


def test_layouts_are_remembered_by_structure():
    net, meta = network("mlp"), trained("streaming")
    assert meta.layout(net) is meta.layout(net.replace({}))
    assert meta.layout(net) is not meta.layout(network("mlp_sigmoid"))


def test_large_vocabularies_carry_no_states_and_cost_no_messages():
    model = nn.Sequential(nn.Embedding(5000, 8), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    net = trace(model.double(), (torch.arange(4)[None],))
    meta = trained("streaming")
    layout = meta.layout(net)
    vocabulary = next(a.name for a in net.axes.values() if a.size == 5000)
    assert vocabulary not in layout.axes
    assert layout.units < 100
    silent = {
        layout.matrices[t.tensor].name for b in layout.blocks if not b.messages for t in b.tiles
    }
    assert "0.weight" in silent
    with torch.no_grad():
        out = meta(net, None, 0.5)
        assert_same(out, trained("streaming", tile=5000)(net, None, 0.5), atol=1e-12)
        feature = next(a for a in net.axes.values() if a.size == 8)
        order = torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])
        moved = meta(net.permute(feature.name, order), None, 0.5)
    table = net.replace(out.values).permute(feature.name, order).tensors["0.weight"].value
    torch.testing.assert_close(moved.values["0.weight"], table, rtol=0, atol=1e-10)
    assert not torch.equal(table, net.tensors["0.weight"].value)
