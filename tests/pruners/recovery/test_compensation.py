from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from graphs import trace
from pruners.recovery import compensate_bias, input_means
from pruners.recovery.compensation import mean_shift
from tests.pruners.conftest import removed
from tests.pruners.networks import randomized


def pruned(net, kept, values):
    return net.replace(values).remove(removed(net, kept)).to_model()


def test_constant_units_fold_exactly(dense_mlp):
    """Units that give the same number for every input leave nothing behind."""
    net = dense_mlp.net
    weight = net.tensors["0.weight"].value.clone()
    weight[[1, 4]] = 0
    model = net.replace({"0.weight": weight}).to_model()
    net = trace(model, dense_mlp.inputs)
    kept = {"0.out": torch.tensor([0, 2, 3, 5, 6, 7, 8, 9])}
    found = compensate_bias(net, kept, input_means(net, model, [dense_mlp.inputs]))
    assert set(found.values) == {"2.bias"}
    assert found.status == "What removed units added on average went into 1 bias."
    small = pruned(net, kept, found.values)
    torch.testing.assert_close(small(*dense_mlp.inputs), model(*dense_mlp.inputs))
    plain = pruned(net, kept, {})
    assert not torch.allclose(plain(*dense_mlp.inputs), model(*dense_mlp.inputs), atol=1e-3)


def test_the_mean_output_of_a_linear_consumer_stays(cnn):
    """Flatten into a linear layer: positions of a channel go together, the mean logits stay."""
    net = cnn.net
    kept = {"stem.out": torch.tensor([0, 1, 2, 6, 7])}
    means = input_means(net, cnn.model, [cnn.inputs, cnn.inputs])
    assert means["fc.weight"].shape == (32,)
    found = compensate_bias(net, kept, means)
    assert set(found.values) == {"fc.bias"}
    assert found.uncompensated == {"conv1.weight": "no bias"}
    assert found.status.endswith("went into 1 bias; 1 weight went without: no bias.")
    features = {}
    handle = cnn.model.fc.register_forward_pre_hook(lambda m, a: features.update(x=a[0]))
    dense = cnn.model(*cnn.inputs)
    handle.remove()
    gone = torch.tensor([3, 4, 5])
    columns = (gone[:, None] * 4 + torch.arange(4)).flatten()
    x = features["x"].clone()
    x[:, columns] = 0
    compensated = F.linear(x, cnn.model.fc.weight, found.values["fc.bias"])
    torch.testing.assert_close(compensated.mean(0), dense.mean(0))


@pytest.mark.parametrize(("groups", "kernel"), [(1, 1), (1, 3), (2, 1), (2, 3), (4, 3)])
def test_mean_shift_is_the_convolution_of_a_constant_image(groups, kernel):
    conv = nn.Conv2d(8, 12, kernel, groups=groups, bias=False).double()
    width = 8 // groups
    dropped = torch.zeros(width, dtype=torch.bool)
    dropped[: max(1, width // 2)] = True
    mean = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image = torch.where(dropped.repeat(groups), mean, 0.0)[None, :, None, None].expand(1, 8, 5, 5)
    expected = conv(image)[0, :, 0, 0]
    torch.testing.assert_close(mean_shift(conv.weight, dropped, mean, side=1), expected)


def test_mean_shift_of_a_transposed_matrix():
    weight = torch.randn(5, 3, dtype=torch.float64)  # (in, out)
    mean = torch.arange(5.0, dtype=torch.float64)
    dropped = torch.tensor([True, False, True, False, False])
    expected = mean[dropped] @ weight[dropped]
    torch.testing.assert_close(mean_shift(weight, dropped, mean, side=0), expected)


def test_a_convolution_without_padding_keeps_its_mean_response():
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(F.relu(self.a(x)))

    model = randomized(Plain().double())
    x = torch.randn(3, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net = trace(model, (x,))
    kept = {"a.out": torch.tensor([0, 3, 5])}
    found = compensate_bias(net, kept, input_means(net, model, [(x,)]))
    small = pruned(net, kept, found.values)
    torch.testing.assert_close(small(x).mean((0, 2, 3)), model(x).mean((0, 2, 3)))


def test_means_are_those_of_all_batches_and_the_model_is_left_alone(dense_mlp):
    model, net = dense_mlp.model.train(), dense_mlp.net
    x = torch.randn(9, 6, dtype=torch.float64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    split = input_means(net, model, [x[:2], (x[2:3],), {"input": x[3:]}])
    whole = input_means(net, model, [x])
    assert set(split) == {"2.weight", "4.weight"}
    for name, mean in whole.items():
        torch.testing.assert_close(split[name], mean)
    torch.testing.assert_close(whole["2.weight"], model[1](model[0](x)).mean(0))
    assert all(module.training for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_an_exported_graph_is_measured_like_the_module(cnn):
    from graphs.build.rebuild import graph_model

    exported = graph_model(cnn.net)
    expected = input_means(cnn.net, cnn.model, [cnn.inputs])
    found = input_means(cnn.net, exported, [cnn.inputs])
    assert set(found) == set(expected)
    for name, mean in expected.items():
        torch.testing.assert_close(found[name], mean)


def test_what_was_not_measured_is_said(dense_mlp):
    kept = {"0.out": torch.tensor([0, 1])}
    found = compensate_bias(dense_mlp.net, kept, {})
    assert found.values == {}
    assert found.uncompensated == {"2.weight": "its inputs were not measured"}
    with pytest.raises(ValueError, match="at least one calibration batch"):
        input_means(dense_mlp.net, dense_mlp.model, [])


def test_whole_axes_and_untouched_networks_need_nothing(dense_mlp):
    means = input_means(dense_mlp.net, dense_mlp.model, [dense_mlp.inputs])
    everything = {"0.out": torch.arange(10)}
    for kept in ({}, everything):
        found = compensate_bias(dense_mlp.net, kept, means)
        assert found.values == {}
        assert found.uncompensated == {}


def test_bf16_biases_keep_their_dtype(dense_mlp):
    net = dense_mlp.net
    half = net.replace({n: t.value.bfloat16() for n, t in net.tensors.items()})
    means = input_means(net, dense_mlp.model, [dense_mlp.inputs])
    kept = {"0.out": torch.tensor([0, 1])}
    found = compensate_bias(half, kept, means).values["2.bias"]
    assert found.dtype == torch.bfloat16
    exact = compensate_bias(net, kept, means).values["2.bias"]
    torch.testing.assert_close(found.double(), exact, rtol=0.05, atol=0.05)
    out = functional_call(dense_mlp.model, {"2.bias": exact}, dense_mlp.inputs)
    assert out.isfinite().all()


def test_a_reader_that_is_no_linear_map_is_named() -> None:
    class Bilinear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.pair = nn.Linear(4, 6), nn.Bilinear(6, 6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.pair(torch.sigmoid(self.a(x)), torch.sigmoid(self.a(x)))

    x = (torch.randn(5, 4),)
    model = Bilinear()
    net = trace(model, x)
    axis = str(net.tensors["a.weight"].dims[0])
    found = compensate_bias(net, {axis: torch.arange(4)}, input_means(net, model, [x]))
    assert "pair.weight" in found.uncompensated
    assert not found.values
