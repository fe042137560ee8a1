"""Laws of every metanetwork: identity at the start, equivariance, any size, bounds, gradients."""

from __future__ import annotations

import pytest
import torch

import metanet
from metanet.tables.matrices import CHANGED
from tests.metanet.conftest import NAMES, SMALL, assert_same, evidence, flat, network, trained

META = list(SMALL)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", META)
def test_an_untrained_metanetwork_is_the_identity(kind, name, dtype):
    net = network(name, dtype)
    out = metanet.build(SMALL[kind])(net, None, 0.5)
    changed = {n for n, t in net.tensors.items() if t.role in CHANGED}
    assert set(out.values) == changed
    for key, value in out.values.items():
        assert value.dtype == net.tensors[key].value.dtype
        assert torch.equal(value, net.tensors[key].value), key
    for logits in (out.unit_logits, out.axis_logits, out.tensor_logits):
        assert logits
        assert all(not t.any() for t in logits.values())
    free = {a.name: a.size for a in net.axes.values() if a.frozen is None}
    assert {n: t.numel() for n, t in out.unit_logits.items()} == free
    assert set(out.axis_logits) == set(free)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", META)
def test_permuting_any_axis_permutes_the_output(kind, name):
    net, meta = network(name), trained(kind)
    proof = evidence(net)
    with torch.no_grad():
        out = meta(net, proof, 0.4)
        generator = torch.Generator().manual_seed(1)
        for axis in (a for a in net.axes.values() if a.frozen is None and a.size > 1):
            order = torch.randperm(axis.size, generator=generator)
            if torch.equal(order, torch.arange(axis.size)):
                order = order.flip(0)
            moved = meta(
                net.permute(axis.name, order), proof | {axis.name: proof[axis.name][order]}, 0.4
            )
            expected = metanet.Transformation(
                values={
                    n: net.replace(out.values).permute(axis.name, order).tensors[n].value
                    for n in out.values
                },
                unit_logits=out.unit_logits | {axis.name: out.unit_logits[axis.name][order]},
                axis_logits=out.axis_logits,
                tensor_logits=out.tensor_logits,
            )
            assert_same(moved, expected, atol=1e-10)


@pytest.mark.parametrize("kind", META)
def test_the_law_of_equivariance_is_not_empty(kind):
    """Units are told apart: the unpermuted output is far from the permuted one."""
    net, meta = network("mlp"), trained(kind)
    axis = next(a for a in net.axes.values() if a.frozen is None)
    out, moved = (meta(n, None, 0.4) for n in (net, net.permute(axis.name, range(axis.size)[::-1])))
    changes = [(out.values[n] - net.tensors[n].value, moved.values[n]) for n in out.values]
    assert max(change.abs().max() for change, _ in changes) > 1e-3
    if kind == "streaming":
        assert (out.unit_logits[axis.name] - moved.unit_logits[axis.name]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", META)
def test_the_same_weights_serve_every_network_and_leave_them_alone(kind):
    meta = trained(kind)
    for name in NAMES:
        net = network(name)
        before = {n: t.value.clone() for n, t in net.tensors.items()}
        out = meta(net, None, 0.3)
        moved = [n for n, v in out.values.items() if not torch.equal(v, before[n])]
        assert moved == list(out.values), name
        assert all(torch.equal(t.value, before[n]) for n, t in net.tensors.items())
        again = meta(net, None, 0.3)
        assert_same(out, again, atol=0)


@pytest.mark.parametrize("kind", META)
def test_gradients_reach_every_parameter_that_matters(kind):
    net, meta = network("resnet_option_a"), trained(kind)
    sum(t.double().sin().sum() for t in flat(meta(net, evidence(net), 0.5)).values()).backward()
    missing = [n for n, p in meta.named_parameters() if p.grad is None or not p.grad.any()]
    # What the last layer tells the edges or the nodes is not read again on every route.
    assert not [n for n in missing if "layers.1" not in n], missing
    assert all(p.grad.isfinite().all() for p in meta.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", META)
def test_gradients_leave_the_initial_identity(kind):
    net, meta = network("plain_cnn_flatten", torch.float32), metanet.build(SMALL[kind])
    sum(t.sin().sum() for t in flat(meta(net, None, 0.5)).values()).backward()
    heads = (
        ("unit_head.2", "axis_head.2", "tensor_head.2", "decoder.rows")
        if kind == "streaming"
        else ("node_decoder.3", "edge_decoder.3")
    )
    for head in heads:
        layer = meta.get_submodule(head)
        assert not layer.weight.any()
        assert layer.weight.grad.any(), head
        assert layer.bias.grad.any(), head


@pytest.mark.parametrize("kind", META)
def test_gradients_reach_the_values_through_the_change(kind):
    net, meta = network("mlp"), trained(kind)
    name = next(n for n, t in net.tensors.items() if t.role == "weight")
    value = net.tensors[name].value.detach().clone().requires_grad_()
    meta(net.replace({name: value}), None, 0.5).values[name].sum().backward()
    assert value.grad is not None
    assert (value.grad - 1).abs().max() < 0.5


@pytest.mark.parametrize("kind", META)
@pytest.mark.parametrize("target", [0.0, -1.0, 1.5, float("nan")])
def test_a_target_out_of_range_is_refused(kind, target):
    with pytest.raises(ValueError, match=r"'target' is the share that stays"):
        metanet.build(SMALL[kind])(network("mlp"), None, target)


def test_seeds_decide_the_parameters_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    a, b, c = (metanet.build(SMALL["streaming"] | {"seed": s}) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(a.context.weight, b.context.weight)
    assert not torch.equal(a.context.weight, c.context.weight)
