from __future__ import annotations

import pytest
import torch
from torch import nn

from pruners.solvers import as_matrix
from pruners.statistics import input_statistics
from pruners.statistics.calls import LinearCalls, input_rows
from tests.pruners.conftest import make


@pytest.mark.filterwarnings("ignore:Using padding=.same.")
@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(6, 5),
        nn.Conv1d(6, 4, 3, padding=1),
        nn.Conv1d(6, 4, 4, padding="same"),
        nn.Conv2d(6, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
        nn.Conv2d(6, 4, 3, groups=2, padding=1),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.Conv2d(6, 4, 3, padding="valid"),
        nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv3d(6, 2, 2, padding=1),
    ],
    ids=str,
)
def test_rows_times_matrix_is_the_layer(layer):
    """The certificate of every unfolding: multiplying the rows gives the layer's own output."""
    layer = layer.double()
    layer.bias = None
    shape = (3, 7, 6) if isinstance(layer, nn.Linear) else (3, 6, *[7] * (layer.weight.ndim - 2))
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    calls = []
    with LinearCalls(calls.append):
        expected = layer(x)
    rows, matrix = input_rows(calls[0]), as_matrix(layer.weight)
    if isinstance(layer, nn.Linear):
        torch.testing.assert_close((rows @ matrix.T).reshape(expected.shape), expected)
        return
    groups, places = layer.groups, expected.shape[2:]
    grouped = rows.reshape(3, groups, -1, rows.shape[1])
    by_group = matrix.reshape(groups, -1, rows.shape[1])
    found = torch.einsum("bgpc,goc->bgop", grouped, by_group).reshape(3, -1, *places)
    torch.testing.assert_close(found, expected)


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
    assert set(found["0.weight"]) == {"norms"}
    both = input_statistics(dense_mlp.model, [dense_mlp.inputs], ["0.weight"])
    torch.testing.assert_close(found["0.weight"]["norms"], both["0.weight"]["norms"])


def test_bf16_inputs_are_accumulated_wide():
    model = make("mlp").model.bfloat16()
    found = input_statistics(model, [torch.ones(2000, 6, dtype=torch.bfloat16)], ["0.weight"])
    assert found["0.weight"]["hessian"].dtype == torch.float32
    torch.testing.assert_close(found["0.weight"]["hessian"], torch.ones(6, 6))


def test_embeddings_have_no_linear_inputs_and_bad_input_is_refused():
    case = make("attention")
    assert input_statistics(case.model, [case.inputs], ["embed.weight"]) == {}
    with pytest.raises(ValueError, match="at least one calibration batch"):
        input_statistics(case.model, [], ["q.weight"])
    with pytest.raises(ValueError, match='no parameter "x"'):
        input_statistics(case.model, [case.inputs], ["x"])
    with pytest.raises(ValueError, match='unknown statistic "kurtosis"'):
        input_statistics(case.model, [case.inputs], ["q.weight"], ["kurtosis"])
