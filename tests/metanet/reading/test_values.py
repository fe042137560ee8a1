"""Sums over the blocks are those of the slices."""

from __future__ import annotations

import pytest
import torch

from graphs.axes.dims import unit_index
from metanet.reading.values import Reader, statistics
from metanet.tables.matrices import MATRICES
from tests.metanet.conftest import NAMES, network, trained


@pytest.mark.parametrize("name", NAMES)
def test_statistics_are_those_of_the_slices(name):
    net, meta = network(name), trained("streaming")
    layout = meta.layout(net)
    units, tensors = statistics(Reader(net, layout, torch.zeros(1).double(), 50), layout)
    for m, (total, absolute, square, count) in zip(layout.matrices, tensors, strict=True):
        value = net.tensors[m.name].value
        expected = torch.stack([value.sum(), value.abs().sum(), value.square().sum()])
        torch.testing.assert_close(torch.stack([total, absolute, square]), expected)
        assert int(count) == value.numel()
    by_axis = layout.by_axis(units)
    axis = next(a for a in net.axes.values() if a.frozen is None)
    squares = torch.zeros(axis.size, dtype=torch.float64)
    for m in layout.matrices:
        if m.role in MATRICES:
            index = unit_index(m.row, axis.name, net.axes)
            rows = m.read(net.tensors[m.name].value).square().sum((0, 2))
            squares.index_add_(0, index[index >= 0], rows[index >= 0])
    torch.testing.assert_close(by_axis[axis.name][:, 0, 2], squares)
