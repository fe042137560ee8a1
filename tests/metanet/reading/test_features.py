"""Networks unlike anything seen keep corrections inside their bounds; bad input is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from graphs import trace
from metanet.reading.features import UNIT_FEATURES, tensor_features, unit_features
from metanet.reading.values import Reader, statistics
from metanet.tables.describe import LIMIT
from tests.metanet.conftest import NAMES, evidence, flat, network, trained


def outlier(value):
    out = torch.zeros_like(value)
    out.view(-1)[0] = 1e9
    return out


WILD = {
    "huge": lambda v: v * 1e12,
    "tiny": lambda v: v * 1e-20,
    "zero": torch.zeros_like,
    "constant": torch.ones_like,
    "one outlier": outlier,
}


def wild(net, change):
    return net.replace(
        {n: change(t.value) for n, t in net.tensors.items() if t.value.is_floating_point()}
    )


def assert_bounded(net, out, weight_bound=0.1, logit_bound=3.0):
    for name, value in out.values.items():
        old = net.tensors[name].value.double()
        sigma = old.square().mean().sqrt()
        slack = 1e-5 * (old.abs() + sigma)
        change = (value.double() - old).abs()
        assert (change <= weight_bound * (old.abs() + sigma) + slack).all(), name
    for name, t in flat(out).items():
        assert t.isfinite().all(), name
        if not name.startswith("values/"):
            assert t.abs().max() <= logit_bound, name


@pytest.mark.parametrize("change", WILD)
@pytest.mark.parametrize("name", ["mlp", "resnet_option_a", "llama"])
def test_wild_weights_stay_inside_the_bounds(name, change):
    net = wild(network(name, torch.float32), WILD[change])
    with torch.no_grad():
        out = trained("streaming", torch.float32)(net, evidence(net), 0.01)
    assert_bounded(net, out)


def test_wild_shapes_stay_inside_the_bounds():
    model = nn.Sequential(
        nn.Conv2d(1, 1, 31, padding=15),
        nn.BatchNorm2d(1),
        nn.Conv2d(1, 300, 1),
        nn.BatchNorm2d(300, affine=False),
        nn.Flatten(),
        nn.Linear(300 * 36, 2),
    )
    net = trace(model, (torch.randn(2, 1, 6, 6),))
    meta = trained("streaming", torch.float32)
    with torch.no_grad():
        assert_bounded(net, meta(net, None, 0.5))


@pytest.mark.parametrize("kind", ["streaming", "pna"])
@pytest.mark.parametrize("model", [nn.ReLU(), nn.Linear(5, 1), nn.BatchNorm1d(5)])
def test_networks_with_nothing_to_cut_come_out_whole(kind, model):
    net = trace(model.eval(), (torch.randn(2, 5),))
    out = trained(kind, torch.float32)(net, None, 0.5)
    assert set(out.values) == {n for n, _ in model.named_parameters()}
    assert all(t.isfinite().all() for t in flat(out).values())


@settings(max_examples=25, deadline=None)
@given(st.floats(-30, 30), st.integers(0, 100), st.floats(0.001, 1.0))
def test_features_stay_inside_their_limits(exponent, seed, target):
    net = network("resnet_projection")
    scaled = {n: 10**exponent * e for n, e in evidence(net, seed).items()}
    layout = trained("streaming").layout(net)
    units, tensors = statistics(Reader(net, layout, torch.zeros(1).double(), 2**20), layout)
    for table in (
        unit_features(layout, units, scaled, target),
        tensor_features(layout, tensors, target),
    ):
        assert table.isfinite().all()
        assert table.abs().max() <= LIMIT


def test_the_scale_of_evidence_does_not_matter():
    net, meta = network("plain_cnn_flatten"), trained("streaming")
    proof = evidence(net)
    scaled = {n: 1e4 * e for n, e in proof.items()}
    first, second, without = (flat(meta(net, e, 0.5)) for e in (proof, scaled, None))
    axis = f"unit_logits/{next(iter(proof))}"
    torch.testing.assert_close(first[axis], second[axis], rtol=0, atol=1e-9)
    assert (first[axis] - without[axis]).abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_unit_features_have_their_width(name):
    net = network(name)
    layout = trained("streaming").layout(net)
    units, _ = statistics(Reader(net, layout, torch.zeros(1).double(), 2**20), layout)
    assert unit_features(layout, units, None, 1.0).shape == (layout.units, UNIT_FEATURES)


def test_the_target_and_the_values_are_read():
    net, meta = network("mlp"), trained("streaming")
    axis = next(a.name for a in net.axes.values() if a.frozen is None)
    base, other = (meta(net, None, t).unit_logits[axis] for t in (0.2, 0.8))
    shaken = meta(wild(net, lambda v: v + 0.3 * v.roll(1, 0)), None, 0.2).unit_logits[axis]
    assert (base - other).abs().max() > 1e-3
    assert (base - shaken).abs().max() > 1e-3


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_weights_are_named(bad):
    net = network("mlp", torch.float32)
    name = next(n for n, t in net.tensors.items() if t.role == "weight")
    value = net.tensors[name].value.clone()
    value.view(-1)[3] = bad
    with pytest.raises(ValueError, match=f"tensor '{name}' holds NaN or infinite values"):
        trained("streaming", torch.float32)(net.replace({name: value}), None, 0.5)


def test_evidence_that_does_not_fit_is_named():
    net = network("mlp")
    axis = next(a for a in net.axes.values() if a.frozen is None)
    wrong = {axis.name: torch.zeros(axis.size, 2)}
    with pytest.raises(ValueError, match=rf"axis '{axis.name}' must have shape \({axis.size}, 3\)"):
        trained("streaming")(net, wrong, 0.5)
