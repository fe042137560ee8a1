from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from pruners.budgets.rules.owl import outlier_share
from pruners.solvers import as_matrix
from pruners.statistics import STATISTICS, Moments, Statistics, collect, input_statistics
from pruners.statistics.likelihood import Likelihood
from pruners.statistics.moments import of_rows, parts_of
from tests.pruners.conftest import make

FORWARD = [name for name in STATISTICS if name not in ("gradients", "curvature")]
"""Statistics of one forward pass."""

SURE = Likelihood(temperature=1.0, draws=2)
"""Nothing left to choose by the data: parts of them give what all together give."""


def test_moments_are_those_of_all_samples_in_any_split(cnn):
    names = ["stem.weight", "conv2.weight", "fc.weight"]
    x = torch.randn(6, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = input_statistics(cnn.model, [x], names)
    split = input_statistics(cnn.model, [x[:1], (x[1:4],), {"x": x[4:]}], names)
    for name in names:
        for key, value in whole[name].items():
            torch.testing.assert_close(split[name][key], value)
    features = {}
    handle = cnn.model.fc.register_forward_pre_hook(lambda m, a: features.update(x=a[0]))
    cnn.model(x)
    handle.remove()
    second = features["x"].T @ features["x"] / 6
    torch.testing.assert_close(whole["fc.weight"]["hessian"], second.detach())
    torch.testing.assert_close(whole["fc.weight"]["norms"], second.diagonal().sqrt().detach())


def test_norms_alone_need_no_square_matrix(dense_mlp):
    found = input_statistics(dense_mlp.model, [dense_mlp.inputs], ["0.weight"], ["norms"])
    assert set(found["0.weight"]) == {"norms", "samples"}
    both = input_statistics(dense_mlp.model, [dense_mlp.inputs], ["0.weight"])
    torch.testing.assert_close(found["0.weight"]["norms"], both["0.weight"]["norms"])


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_narrow_inputs_are_accumulated_wide(narrow):
    """Sums over 2000 samples in 8 or 11 bits would stand still at 256 or 2048."""
    model = make("mlp").model.to(narrow)
    inputs = rows_of(0, 2000, 6, offset=1.0).to(narrow)
    found = input_statistics(model, inputs.split(7), ["0.weight"], FORWARD)["0.weight"]
    x, y = inputs.double(), model[0](inputs).double().detach()
    expected = {
        "norms": x.square().mean(0).sqrt(),
        "hessian": x.T @ x / 2000,
        "means": x.mean(0),
        "variances": x.var(0, correction=0),
        "output_means": y.mean(0),
        "output_variances": y.var(0, correction=0),
    }
    assert set(found) == {*expected, "samples"}
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name].double(), value, rtol=1e-5, atol=1e-6)


def test_outlier_ratios_are_those_of_one_pass():
    """OWL's share of |w|·‖x‖ far above its mean needs the weights and the norms, which merge."""
    layer, x = nn.Linear(6, 40), rows_of(0, 90, 6, dtype=torch.float32)
    x[:, 2] *= 40
    seen = collect(layer, [x[:10]], ["weight"], ["norms"])
    seen.merge_(collect(layer, [x[10:35], x[35:]], ["weight"], ["norms"]))
    norms = seen.tensors()["weight"]["norms"]
    scores = layer.weight.detach().abs().double() * x.double().square().mean(0).sqrt()
    ratio = (scores > 4 * scores.mean()).double().mean().item()
    assert outlier_share(layer.weight.detach().abs() * norms, 4.0) == pytest.approx(ratio)
    assert 0.05 < ratio < 0.2


def test_embeddings_have_no_linear_inputs_and_bad_input_is_refused():
    case = make("attention")
    assert input_statistics(case.model, [case.inputs], ["embed.weight"]) == {}
    with pytest.raises(ValueError, match="at least one calibration batch"):
        input_statistics(case.model, [], ["q.weight"])
    with pytest.raises(ValueError, match='no parameter "x"'):
        input_statistics(case.model, [case.inputs], ["x"])
    with pytest.raises(ValueError, match='unknown statistic "kurtosis"'):
        input_statistics(case.model, [case.inputs], ["q.weight"], ["kurtosis"])


def rows_of(seed, count, columns, offset=0.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, columns, generator=generator, dtype=torch.float64).to(dtype) + offset


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 12), max_size=5),
    shuffled=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    seed=st.integers(0, 99),
)
def test_merging_any_split_in_any_order_equals_one_pass(cuts, shuffled, dtype, seed):
    x, y = rows_of(seed, 12, 4, dtype=dtype), rows_of(seed + 1, 12, 3, offset=5, dtype=dtype)
    wanted = parts_of(STATISTICS)
    edges = [0, *sorted(cuts), 12]
    parts = [of_rows(x[a:b], y[a:b], wanted) for a, b in pairwise(edges) if b > a]
    if shuffled:
        parts.reverse()
    merged = Moments()
    for part in parts:
        merged.merge_(part)
    names = FORWARD
    whole, found = of_rows(x, y, wanted).statistics(names), merged.statistics(names)
    assert set(found) == {*names, "samples"}
    wide = torch.promote_types(dtype, torch.float32)
    for name, value in found.items():
        torch.testing.assert_close(value, whole[name])
        assert value.dtype == (torch.float64 if name == "samples" else wide)
    x, y = x.to(wide), y.to(wide)
    torch.testing.assert_close(found["hessian"], x.T @ x / 12)
    assert torch.equal(found["hessian"], found["hessian"].T)
    torch.testing.assert_close(found["variances"], x.var(0, correction=0))
    torch.testing.assert_close(found["output_means"], y.mean(0))
    torch.testing.assert_close(found["output_variances"], y.var(0, correction=0))
    assert found["samples"] == 12


def test_variances_survive_a_large_mean():
    """Sums of squares would lose every digit here."""
    x = rows_of(0, 4000, 3) + 1e4
    merged = Moments()
    for part in x.float().split(100):
        merged.merge_(of_rows(part, None, parts_of(["variances"])))
    found = merged.statistics(["variances"])["variances"]
    torch.testing.assert_close(found, x.var(0, correction=0).float(), rtol=2e-3, atol=0)


def test_every_statistic_of_a_network_is_what_it_says(cnn):
    names = ["stem.weight", "conv2.weight", "fc.weight"]
    x = torch.randn(6, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batches = [x[:2], x[2:]]

    def loss(model, batch):
        return model(batch).square().mean()

    found = collect(cnn.model, batches, names, STATISTICS, loss, likelihood=SURE).tensors()
    pieces = [collect(cnn.model, [b], names, STATISTICS, loss, likelihood=SURE) for b in batches]
    merged = pieces[0].merge_(pieces[1]).tensors()
    inputs, outputs = [], []

    def hook(module, given, output):
        inputs.append(given[0])
        outputs.append(output)

    handle = cnn.model.eval().fc.register_forward_hook(hook)
    expected = dict.fromkeys(names, 0.0)
    for batch in batches:
        parameters = [cnn.model.get_parameter(name) for name in names]
        gradients = torch.autograd.grad(loss(cnn.model, batch), parameters)
        for name, gradient in zip(names, gradients, strict=True):
            expected[name] = expected[name] + as_matrix(gradient).square()
    handle.remove()
    for name in names:
        torch.testing.assert_close(found[name]["gradients"], expected[name].sqrt())
        for key, value in merged[name].items():
            torch.testing.assert_close(value, found[name][key])
    seen, made = torch.cat(inputs), torch.cat(outputs)
    torch.testing.assert_close(found["fc.weight"]["means"], seen.mean(0))
    torch.testing.assert_close(found["fc.weight"]["variances"], seen.var(0, correction=0))
    torch.testing.assert_close(found["fc.weight"]["output_means"], made.mean(0))
    torch.testing.assert_close(found["fc.weight"]["output_variances"], made.var(0, correction=0))
    assert found["stem.weight"]["samples"] == 6 * 36


def test_outputs_of_grouped_convolutions_are_counted_once():
    layer = nn.Conv2d(6, 4, 3, groups=2).double()
    x = rows_of(0, 2 * 6 * 25, 1).reshape(2, 6, 5, 5)
    found = input_statistics(layer, [x[:1], x[1:]], ["weight"], ["hessian", "output_variances"])
    y = layer(x).detach().movedim(1, -1).flatten(0, -2)
    torch.testing.assert_close(found["weight"]["output_variances"], y.var(0, correction=0))
    assert found["weight"]["samples"] == 2 * 9 * 2


def test_without_a_loss_gradients_say_how_sensitive_the_outputs_are():
    """The mean over random signs of the squared gradient is the diagonal of Gauss–Newton."""
    layer, x = nn.Linear(4, 3, bias=False).double(), rows_of(0, 50, 4)
    found = input_statistics(layer, [x] * 40, ["weight"], ["gradients"])["weight"]["gradients"]
    exact = (x.square().sum(0) / (50 * 3)).expand(3, 4)
    torch.testing.assert_close(found.square() / 40, exact, rtol=0.3, atol=0)
    assert not layer.weight.requires_grad or layer.weight.grad is None
    with pytest.raises(ValueError, match="scalar loss"):
        input_statistics(layer, [x], ["weight"], ["gradients"], lambda m, b: m(b))
    with pytest.raises(ValueError, match="scalar loss"):
        input_statistics(layer, [x], ["weight"], ["gradients"], lambda m, b: torch.ones(()))


def test_statistics_are_saved_and_loaded(tmp_path, cnn):
    names = ["stem.weight", "fc.weight"]
    x = torch.randn(4, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    first, second = (
        collect(cnn.model, [part], names, STATISTICS, likelihood=SURE) for part in x.split(2)
    )
    path = tmp_path / "statistics.safetensors"
    first.save(path)
    loaded = Statistics.load(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert loaded.needs == first.needs
    for name in names:
        for key, value in first.tensors()[name].items():
            assert torch.equal(loaded.tensors()[name][key], value)
    whole = first.merge_(second).tensors()
    again = loaded.merge_(second).tensors()
    assert all(torch.equal(again[n][k], v) for n in names for k, v in whole[n].items())


def test_statistics_that_do_not_fit_are_refused(tmp_path, dense_mlp):
    norms = collect(dense_mlp.model, [dense_mlp.inputs], ["0.weight"], ["norms"])
    means = collect(dense_mlp.model, [dense_mlp.inputs], ["0.weight"], ["means"])
    with pytest.raises(ValueError, match="cannot be merged"):
        norms.merge_(means)
    with pytest.raises(ValueError, match="cannot be merged"):
        norms.moments["0.weight"].merge_(means.moments["0.weight"])
    other = tmp_path / "other.safetensors"
    save_file({"x": torch.ones(1)}, other)
    with pytest.raises(ValueError, match="does not hold calibration statistics"):
        Statistics.load(other)


def squares(model, batch):
    return model(batch).square().mean()


def process(rank, world, folder):
    """One process of many: its share of the samples, then everybody's."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world
    )
    model, names = make("mlp").model, ["0.weight", "2.weight"]
    mine = rows_of(3, 12, 6).split([3, 9])[rank]
    collect(model, [mine], names, STATISTICS, squares, likelihood=SURE).all_reduce_().save(
        f"{folder}/{rank}.safetensors"
    )
    other = collect(model, [mine], [f"{2 * rank}.weight"], ["norms"])
    with pytest.raises(ValueError, match="different weights"):
        other.all_reduce_()
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_add_up_what_they_saw(tmp_path):
    mp.spawn(process, (2, str(tmp_path)), nprocs=2)
    batches, names = rows_of(3, 12, 6).split([3, 9]), ["0.weight", "2.weight"]
    whole = collect(
        make("mlp").model, batches, names, STATISTICS, squares, likelihood=SURE
    ).tensors()
    first, second = (Statistics.load(tmp_path / f"{rank}.safetensors") for rank in range(2))
    for name, values in whole.items():
        assert set(first.tensors()[name]) == {*STATISTICS, "samples"}
        for key, value in values.items():
            torch.testing.assert_close(first.tensors()[name][key], value)
            assert torch.equal(first.tensors()[name][key], second.tensors()[name][key])
