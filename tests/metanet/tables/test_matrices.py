"""Tensors are read as matrices, and written back."""

from __future__ import annotations

import pytest
import torch

from tests.metanet.conftest import NAMES, network, trained


@pytest.mark.parametrize("name", NAMES)
def test_matrices_read_and_write_are_inverse(name):
    net = network(name)
    for m in trained("streaming").layout(net).matrices:
        value = net.tensors[m.name].value
        matrix = m.read(value)
        assert matrix.shape == (m.kernel, m.rows, m.cols)
        assert torch.equal(m.write(matrix), value)
