"""The message layer against its equation, entry by entry; matrices against their tensors."""

from __future__ import annotations

import pytest
import torch

from graphs.axes.dims import atoms, unit_index
from metanet.layers.messages import MessageLayer
from metanet.reading.values import Reader, statistics
from metanet.tables.matrices import MATRICES
from metanet.tables.taps import tap_coordinates
from tests.metanet.conftest import NAMES, network, trained


def naive(layer: MessageLayer, units, tokens, net, layout, sigma):
    """The equation of `metanet.messages` by loops over tensors, rows and heads."""
    d, heads = units.shape[1], layer.heads
    offsets = layout.offsets()
    sent = layer.send(torch.cat([units, units.new_zeros(1, d)]))
    gates = 1 + layer.gate(tokens)
    sums = {side: [[] for _ in range(len(units))] for side in ("row", "col")}
    means = torch.zeros_like(gates)
    for i, m in enumerate(layout.matrices):
        if m.role not in MATRICES:
            continue
        x = (m.read(net.tensors[m.name].value) / sigma[i]).clamp(-8, 8)
        a, b, c = layer.taps(tap_coordinates(m.taps)).T.split(heads // 2)
        signed = torch.einsum("mt,trc->mrc", a, x) / m.kernel**0.5
        unsigned = torch.einsum("mt,trc->mrc", b, x.abs()) / m.kernel
        unsigned = unsigned + torch.einsum("mt,trc->mrc", c, x**2 / (1 + x**2)) / m.kernel
        phi = torch.cat([signed, unsigned])
        members = {}
        for side, dim, n in (("row", m.row, m.rows), ("col", m.col, m.cols)):
            members[side] = [
                [
                    offsets[axis] + int(u)
                    for axis in atoms(dim)
                    if (u := unit_index(dim, axis, net.axes)[p]) >= 0
                ]
                for p in range(n)
            ]
        for side, other, matrix, half in (
            ("row", "col", phi, slice(0, d)),
            ("col", "row", phi.mT, slice(d, 2 * d)),
        ):
            states = torch.stack(
                [sent[us][:, half].sum(0) if us else sent[-1, half] for us in members[other]]
            )
            n = len(states)
            out = torch.empty(matrix.shape[1], d, dtype=units.dtype)
            for head in range(heads):
                cut = slice(head * d // heads, (head + 1) * d // heads)
                norm = n**0.5 if head < heads // 2 else n
                out[:, cut] = matrix[head] @ states[:, cut] / norm
            out = out * gates[i, half]
            means[i, half] = out.mean(0)
            seen: dict[int, list] = {}
            for p, us in enumerate(members[side]):
                for u in us:
                    seen.setdefault(u, []).append(out[p])
            for u, parts in seen.items():
                sums[side][u].append(torch.stack(parts).mean(0))
    received = torch.cat(
        [
            torch.stack([torch.stack(p).mean(0) if p else units.new_zeros(d) for p in sums[side]])
            for side in ("row", "col")
        ],
        dim=1,
    )
    return layer.units(units, received), layer.tokens(tokens, means)


@pytest.mark.parametrize("name", NAMES)
def test_the_layer_computes_its_equation(name):
    net, meta = network(name), trained("streaming")
    layout, layer = meta.layout(net), meta.layers[0]
    generator = torch.Generator().manual_seed(0)
    units, tokens = (
        torch.randn(n, 16, generator=generator, dtype=torch.float64)
        for n in (layout.units, layout.changed)
    )
    reader = Reader(net, layout, units, 2**20)
    sums = statistics(reader, layout)[1]
    sigma = (sums[:, 2] / sums[:, 3]).sqrt()
    with torch.no_grad():
        expected = naive(layer, units, tokens, net, layout, sigma)
        got = layer(units, tokens, layout, reader, sigma)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
