"""The change of a tensor is what its equation says, written out entry by entry."""

from __future__ import annotations

import pytest
import torch

from tests.metanet.conftest import network, trained


@pytest.mark.parametrize("name", ["mlp", "plain_cnn_flatten"])
def test_the_head_computes_its_equation(name):
    net, meta = network(name), trained("streaming")
    head, layout = meta.decoder, meta.layout(net)
    generator = torch.Generator().manual_seed(0)
    units, tokens = (
        torch.randn(n, 16, generator=generator, dtype=torch.float64)
        for n in (layout.units, layout.changed)
    )
    sigma = torch.rand(len(layout.matrices), generator=generator, dtype=torch.float64)
    padded = torch.cat([units, torch.zeros(1, 16)])
    r, checked = head.rank, 0
    with torch.no_grad():
        out = head(units, tokens, net, layout, sigma)
        rows, cols = head.rows(padded), head.cols(padded) / r**0.5
        gates = 1 + head.tensors(tokens)
        for index, m in enumerate(layout.matrices[: layout.changed]):
            taps = 1 + head.taps(layout.coordinates[m.taps])
            block, tile = next(
                (b, t)
                for b in layout.blocks
                for t in range(len(b.tiles))
                if b.tiles[t].tensor == index and b.tiles[t].start == 0
            )
            old, new = m.read(net.tensors[m.name].value), m.read(out[m.name])
            i, j = 0, m.cols - 1
            u = rows[block.rows[tile, i]].sum(0) * gates[index, : 2 * r]
            v = cols[block.cols[tile, j]].sum(0) * gates[index, 2 * r :]
            for t in range(m.kernel):
                gain, shift = (u * v * taps[t]).view(2, r).sum(1).tanh()
                w = old[t, i, j]
                expected = w + head.bound * (w * gain + sigma[index] * shift)
                torch.testing.assert_close(new[t, i, j], expected)
                checked += 1
    assert checked >= layout.changed
