"""The public laws hold for sound networks, and fail for broken ones."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from types import MappingProxyType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from graphs import Axis, Network, trace
from graphs.axes.dims import Atom, Dim, Fixed, Prod, size
from graphs.program.rescale import Rescale
from graphs.rules import RULES
from metanet import MetaNetwork
from metaprune import testing
from metaprune.testing.gauge import gauges
from metaprune.testing.subject import prepared
from metaprune.testing.symmetry import batches, orders
from tests.oracles.networks.families import build
from tests.oracles.networks.random_networks import build as sentence
from tests.oracles.networks.random_networks import networks


def cnn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 9, 5),
    ).eval()


def image() -> tuple[torch.Tensor]:
    return (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)


def double() -> tuple[Network, tuple[torch.Tensor]]:
    inputs = (image()[0].double(),)
    return trace(cnn().double(), inputs), inputs


def with_tensor(net: Network, name: str, **changes: object) -> Network:
    tensors = {**net.tensors, name: replace(net.tensors[name], **changes)}
    return replace(net, tensors=MappingProxyType(tensors))


@pytest.mark.parametrize(
    "law",
    [
        testing.assert_round_trip,
        testing.assert_permutation_invariant,
        testing.assert_scale_invariant,
        testing.assert_lossless,
    ],
)
def test_laws_hold(law):
    law(cnn(), image())
    assert testing.symmetries(trace(cnn(), image())) > 7  # 6! · 8! ≈ 10^7.5


def test_round_trip_fails_on_one_changed_bit():
    model = cnn()
    net = trace(model, image())
    value = net.tensors["3.weight"].value
    broken = net.replace({"3.weight": torch.nextafter(value, value + 1)})
    with pytest.raises(AssertionError, match=r"3\.weight"):
        testing.assert_round_trip(model, image(), net=broken)


def test_round_trip_fails_on_another_training_flag():
    model = cnn()
    net = trace(model, image())
    model.train()
    with pytest.raises(AssertionError, match="training flag"):
        testing.assert_round_trip(model, image(), net=net)


def test_round_trip_fails_where_biases_shift_on_write_back():
    model = cnn()
    net = trace(model, image())
    broken = net.replace({"0.bias": net.tensors["0.bias"].value.roll(1)})
    with pytest.raises(AssertionError, match=r"0\.bias"):
        testing.assert_round_trip(model, image(), net=broken)


def test_round_trip_fails_where_a_classifier_is_scrambled_on_write_back():
    model = cnn()
    net = trace(model, image())
    value = net.tensors["6.weight"].value
    scrambled = value.view(5, 9, 8).transpose(1, 2).reshape(5, 72)
    with pytest.raises(AssertionError, match=r"6\.weight"):
        testing.assert_round_trip(model, image(), net=net.replace({"6.weight": scrambled}))


def test_round_trip_fails_on_a_program_that_computes_something_else():
    model = cnn()
    net = trace(model, image())
    for node in net.program.graph.nodes:
        if str(node.target) == "aten.relu.default":
            node.target = torch.ops.aten.tanh.default
    with pytest.raises(AssertionError, match="traced program"):
        testing.assert_round_trip(model, image(), net=net)


# What a network declares and should not: every declaration must fail ------------------------------


def freed(net: Network, name: str, exactness: str = "exact") -> Network:
    """The network with a frozen axis declared free."""
    axes = {**net.axes, name: replace(net.axes[name], frozen=None, exactness=exactness)}
    return replace(net, axes=MappingProxyType(axes))


def with_axis(net: Network, axis: Axis, dims: dict[str, dict[int, Dim]]) -> Network:
    """The network with an axis of its own over some dimensions."""
    axes = MappingProxyType({**net.axes, axis.name: axis})
    net = replace(net, axes=axes, source=replace(net.source, axes=axes))
    for name, new in dims.items():
        old = net.tensors[name].dims
        net = with_tensor(net, name, dims=tuple(new.get(i, d) for i, d in enumerate(old)))
    return net


def assert_broken(net: Network, inputs: Any, match: str) -> None:
    with pytest.raises(AssertionError, match=match):
        testing.assert_permutation_invariant(net, inputs)


def test_a_coupling_is_missing():
    net, inputs = double()
    consumer = net.tensors["3.weight"]
    dims = (consumer.dims[0], Fixed(6), *consumer.dims[2:])
    assert_broken(with_tensor(net, "3.weight", dims=dims), inputs, r"permuting 0\.out changed")


def test_a_failure_says_what_to_look_at():
    net, inputs = double()
    consumer = net.tensors["3.weight"]
    dims = (consumer.dims[0], Fixed(6), *consumer.dims[2:])
    with pytest.raises(AssertionError) as failure:
        testing.assert_permutation_invariant(with_tensor(net, "3.weight", dims=dims), inputs)
    text = str(failure.value)
    assert "0.weight[0], 0.bias[0], 1.weight[0]" in text  # the group, as it is declared
    assert "first differ at aten.conv2d" in text  # where the tensor is that is missing from it


def test_an_output_is_declared_free():
    net, inputs = double()
    frozen = net.tensors["6.bias"].dims[0]
    assert_broken(freed(net, frozen.axis), inputs, f"permuting {frozen.axis}")


def test_a_classifier_is_scrambled():
    net, inputs = double()
    out, flat = net.tensors["6.weight"].dims
    assert flat == Prod((Atom("3.out"), Fixed(9, flat.factors[1].reason)))
    transposed = Prod(tuple(reversed(flat.factors)))
    broken = with_tensor(net, "6.weight", dims=(out, transposed))
    assert_broken(broken, inputs, r"permuting 3\.out")


@pytest.mark.parametrize("statistic", ["running_mean", "running_var"])
def test_running_statistics_are_left_out(statistic):
    subject = prepared(cnn(), image(), 0)
    broken = with_tensor(subject.net, f"1.{statistic}", dims=(Fixed(6),))
    assert_broken(broken, subject.inputs[0], r"permuting 0\.out")


@pytest.fixture(scope="module")
def llama():
    model, inputs = build("llama", torch.float64)
    return prepared(model, inputs, 0)


def attention(layer: int, part: str) -> str:
    return f"model.layers.{layer}.self_attn.{part}_proj.weight"


def test_rotary_features_are_declared_free(llama):
    net = llama.net
    feature = Axis("rotary", 4, "head feature")
    dims = {}
    for part in "qk":
        *heads, features = net.tensors[attention(0, part)].dims[0].factors
        assert size(features, net.axes) == 4
        dims[attention(0, part)] = {0: Prod((*heads, Atom("rotary")))}
    broken = with_axis(net, feature, dims)
    assert_broken(broken, llama.inputs[1], "permuting rotary")
    assert testing.symmetries(broken) > testing.symmetries(net)


def test_value_and_output_heads_are_not_tied(llama):
    net = llama.net
    name = attention(1, "o")
    out, inside = net.tensors[name].dims
    broken = with_tensor(net, name, dims=(out, Fixed(size(inside, net.axes))))
    assert_broken(broken, llama.inputs[1], r"permuting model\.layers\.1\.self_attn")


def test_two_axes_that_belong_together_hide_nothing():
    # Two units each: permuted together, a coupling that is missing between them stays hidden.
    model = nn.Sequential(nn.Linear(4, 2), nn.Tanh(), nn.Linear(2, 3)).double()
    subject = prepared(model, (torch.randn(3, 4).double(),), 0)
    broken = with_axis(subject.net, Axis("apart", 2), {"2.weight": {1: Atom("apart")}})
    for one_by_one in (True, False):
        with pytest.raises(AssertionError, match="permuting"):
            testing.assert_permutation_invariant(broken, subject.inputs[0], one_by_one=one_by_one)


@given(st.integers(2, 70))
def test_sets_of_axes_tell_any_two_apart(n):
    axes = [Axis(str(i), 2) for i in range(n)]
    sets = [{axis.name for axis in chosen} for chosen in batches(axes, False)]
    assert len(sets) <= 1 + 2 * n.bit_length()
    for a, b in permutations(map(str, range(n)), 2):
        assert any(a in chosen and b not in chosen for chosen in sets)


@given(st.integers(2, 40), st.integers(0, 1000))
def test_orders_move_every_unit(n, seed):
    found = orders([Axis("a", n)], torch.Generator().manual_seed(seed))["a"]
    assert sorted(found.tolist()) == list(range(n))
    assert not any(unit == place for place, unit in enumerate(found.tolist()))


# Scale gauges -------------------------------------------------------------------------------------


def test_scale_gauges_of_known_networks():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3))
    net = trace(model, (torch.randn(2, 4),))
    found = gauges(net)
    assert found["2.out"] == []  # not homogeneous
    (only,) = found["0.out"]
    degrees = {("0.weight", 0): 1.0, ("0.bias", 0): 1.0, ("2.weight", 1): -1.0}
    sign = only["0.weight", 0]
    assert {place: sign * degree for place, degree in only.items()} == pytest.approx(degrees)


def test_scale_gauges_of_a_residual_stream():
    class Stream(nn.Module):
        def __init__(self, norm: bool) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.norm = nn.LayerNorm(6) if norm else nn.Identity()

        def forward(self, x):
            x = self.a(x)
            return self.c(x + torch.relu(self.b(self.norm(x))))

    inputs = (torch.randn(2, 4),)
    free, bound = (gauges(trace(Stream(norm), inputs)) for norm in (False, True))
    (stream,) = free["a.out"]
    assert {name for name, _ in stream} == {"a.weight", "a.bias", "b.weight", "b.bias", "c.weight"}
    (behind,) = bound["a.out"]  # between the norm and what reads it
    assert {name for name, _ in behind} == {"norm.weight", "norm.bias", "b.weight"}
    for norm in (False, True):
        testing.assert_scale_invariant(Stream(norm), inputs)


def test_scale_law_fails_where_an_activation_is_called_homogeneous(monkeypatch):
    wrong = {"tanh": replace(RULES["tanh"], homogeneous=True)}
    monkeypatch.setattr(RULES, "_things", {**RULES, **wrong})
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    with pytest.raises(AssertionError, match=r"scaling 0\.out"):
        testing.assert_scale_invariant(model, (torch.randn(2, 4),))


# Removal, class by class --------------------------------------------------------------------------


def test_lossless_fails_where_a_dead_unit_is_not_dead():
    net, inputs = double()
    # A bias that is not known to produce the units stays alive when the units die.
    broken = with_tensor(net, "1.bias", produces=(False,))
    live = broken.replace({"1.bias": torch.ones_like(net.tensors["1.bias"].value)})
    with pytest.raises(AssertionError, match=r"removing dead units of 0\.out"):
        testing.assert_lossless(live, inputs)


def called(net: Network, exactness: str) -> Network:
    """The network with all free axes declared to be of one class."""
    axes = {n: a if a.frozen else replace(a, exactness=exactness) for n, a in net.axes.items()}
    return replace(net, axes=MappingProxyType(axes))


def lively_net(*layers: nn.Module, width: int = 4) -> tuple[Network, tuple[torch.Tensor]]:
    subject = prepared(nn.Sequential(*layers), (torch.randn(3, width),), 0)
    return subject.net, subject.inputs[0]


def test_lossless_fails_where_sigmoid_is_called_exact():
    net, inputs = lively_net(nn.Linear(4, 6), nn.Sigmoid(), nn.Linear(6, 3))
    testing.assert_lossless(net, inputs)  # a constant, which the bias takes in
    with pytest.raises(AssertionError, match="although the class is exact"):
        testing.assert_lossless(called(net, "exact"), inputs)


@pytest.mark.parametrize("bias", [True, False])
def test_lossless_fails_where_a_unit_that_varies_is_called_a_constant(bias, llama):
    net, inputs = lively_net(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3, bias=bias))
    broken = with_tensor(net, "0.weight", produces=(False, False))
    with pytest.raises(AssertionError, match="although the class is bias-fold"):
        testing.assert_lossless(called(broken, "bias-fold"), inputs)


def test_lossless_fails_where_a_norm_is_not_rescaled(llama):
    testing.assert_lossless(llama.net, llama.inputs[1])
    program = replace(llama.net.program, rescales=())
    with pytest.raises(AssertionError, match="although the class is norm-rescaled"):
        testing.assert_lossless(replace(llama.net, program=program), llama.inputs[1])


def test_lossless_fails_where_a_softmax_over_channels_is_called_exact():
    net, inputs = lively_net(nn.Linear(4, 6), nn.Softmax(-1), nn.Linear(6, 3))
    name = net.tensors["0.bias"].dims[0].axis
    assert "softmax" in net.axes[name].frozen
    broken = freed(net, name)
    testing.assert_permutation_invariant(broken, inputs)  # it is a symmetry
    with pytest.raises(AssertionError, match="although the class is exact"):
        testing.assert_lossless(broken, inputs)


@pytest.mark.parametrize("norm", [nn.LayerNorm(6), nn.GroupNorm(2, 6)])
def test_removal_under_a_norm_is_the_norm_of_what_stays(norm, monkeypatch):
    net, inputs = lively_net(nn.Linear(4, 6), norm, nn.GELU(), nn.Linear(6, 3))
    assert any(axis.exactness == "norm-changed" for axis in net.axes.values())
    testing.assert_lossless(net, inputs)
    remove = Network.remove

    def wrong(self, *args):
        small = remove(self, *args)
        name = next(n for n, t in small.tensors.items() if t.role == "scale")
        return small.replace({name: 1.1 * small.tensors[name].value})

    monkeypatch.setattr(Network, "remove", wrong)
    with pytest.raises(AssertionError, match="although the class is norm-changed"):
        testing.assert_lossless(net, inputs)


def test_lossless_fails_where_a_frozen_axis_is_cut(monkeypatch):
    net, inputs = double()
    monkeypatch.setattr(Network, "remove", lambda self, *args: self)
    with pytest.raises(AssertionError, match="is frozen"):
        testing.assert_lossless(net, inputs)


# Certificates -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["resnet_option_a", "fused_attention", "vit", "llama"])
def test_certificate(name, dtype):
    model, inputs = build(name, dtype)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    found = testing.certify(model, inputs)
    assert found.holds, str(found)
    found.require()
    exact = [law for law in found.laws if law.name != "removal, data-dependent"]
    assert all(law.deviation < 1e-9 for law in exact)
    assert json.loads(found.to_json())["holds"] is True
    assert sum(found.permutations.values()) == pytest.approx(
        testing.symmetries(trace(model, inputs))
    )
    assert not found.silent
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(networks)
def test_certificate_of_random_networks(spec):
    model, inputs = sentence(spec)
    testing.certify(model, inputs).require()


def test_certificate_of_several_outputs_and_integers():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.a, self.b = nn.Embedding(9, 6), nn.Linear(6, 4), nn.Linear(6, 5)

        def forward(self, ids, scale):
            x = torch.tanh(self.embed(ids)) * scale
            return {"a": self.a(x), "rest": [self.b(x), self.b(x).argmax(-1)]}

    inputs = {"ids": torch.randint(0, 9, (2, 3)), "scale": torch.rand(2, 3, 1)}
    found = testing.certify(Two(), inputs)
    assert found.holds, str(found)


def test_certificate_says_what_broke_and_does_not_raise(monkeypatch):
    monkeypatch.setattr(Rescale, "apply", lambda self, value, before, after: value)
    model, inputs = build("llama", torch.float32)
    found = testing.certify(model, inputs)
    assert not found.holds
    assert "removal, norm-rescaled" in str(found)
    assert "BROKEN" in str(found)
    with pytest.raises(AssertionError, match="removal, norm-rescaled: removing dead units"):
        found.require()


def test_certificate_names_axes_that_it_cannot_tell():
    class Ignored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(4, 3)

        def forward(self, x):
            return self.c(x) + 0.0 * self.b(torch.relu(self.a(x)))

    found = testing.certify(Ignored(), (torch.randn(2, 4),))
    assert found.silent == ("a.out",)
    assert "not told by permutations" in str(found)


def test_constants_of_zeros_are_drawn():
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 1, 4))
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = torch.cat([self.token.expand(x.shape[0], 1, 4), self.a(x)], 1)
            return self.b(torch.relu(x))

    subject = prepared(Token(), (torch.randn(2, 5, 3),), 0)
    testing.assert_permutation_invariant(subject.net, subject.inputs[0])
    broken = with_tensor(
        subject.net, "token", dims=(*subject.net.tensors["token"].dims[:2], Fixed(4))
    )
    assert_broken(broken, subject.inputs[0], "permuting")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_certificate_on_a_gpu():
    model, inputs = build("llama", torch.bfloat16)
    inputs = {name: value.cuda() for name, value in inputs.items()}
    found = testing.certify(model.cuda(), inputs)
    assert found.holds, str(found)


def perturbed_metanet() -> MetaNetwork:
    torch.manual_seed(0)
    meta = MetaNetwork(hidden=8).double()
    with torch.no_grad():
        for parameter in meta.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, dtype=parameter.dtype))
    return meta.eval()


def test_metanetwork_is_equivariant():
    testing.assert_equivariant(perturbed_metanet(), cnn(), image())


def test_equivariance_fails_on_a_metanetwork_that_sees_positions():
    meta = perturbed_metanet()

    def positional(net, evidence, target):
        said = meta(net, evidence, target)
        logits = {n: v + torch.arange(v.numel()) for n, v in said.unit_logits.items()}
        return replace(said, unit_logits=logits)

    with pytest.raises(AssertionError, match="unit logits"):
        testing.assert_equivariant(positional, cnn(), image())


def test_equivariance_fails_on_a_metanetwork_that_sorts_weights():
    def sorting(net, evidence, target):
        said = perturbed_metanet()(net, evidence, target)
        values = {n: v.flatten().sort().values.reshape(v.shape) for n, v in said.values.items()}
        return replace(said, values=values)

    with pytest.raises(AssertionError, match="values of"):
        testing.assert_equivariant(sorting, cnn(), image())
