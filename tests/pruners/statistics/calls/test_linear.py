from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from pruners.solvers import as_matrix
from pruners.statistics.calls import Call, LinearCalls, Watched
from pruners.statistics.calls.rows import (
    column_blocks,
    input_blocks,
    of_slices,
    output_blocks,
    output_rows,
)

WIDE = torch.float64


def numbers(*shape, seed=0):
    return torch.randn(shape, dtype=WIDE, generator=torch.Generator().manual_seed(seed))


def parameter(*shape):
    return nn.Parameter(numbers(*shape, seed=1))


def calls_of(function):
    """The calls of a function, and their outputs."""
    found = []
    with LinearCalls(after=lambda call, output: found.append((call, output.detach()))):
        function()
    return found


LAYERS = [
    (nn.Linear(6, 5), (3, 7, 6)),
    (nn.Linear(6, 5), (6,)),
    (nn.Conv1d(6, 4, 3, padding=1), (3, 6, 7)),
    (nn.Conv1d(6, 4, 4, padding="same"), (3, 6, 7)),
    (nn.Conv2d(6, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (3, 6, 7, 7)),
    (nn.Conv2d(6, 4, 3, groups=2, padding=1), (3, 6, 7, 7)),
    (nn.Conv2d(6, 4, 3, groups=2, padding=1), (6, 7, 7)),
    (nn.Conv2d(6, 6, 3, groups=6), (3, 6, 7, 7)),
    (nn.Conv2d(6, 4, 3, padding="valid"), (3, 6, 7, 7)),
    (nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular"), (3, 6, 7, 7)),
    (nn.Conv3d(6, 2, 2, padding=1), (3, 6, 4, 4, 4)),
    (nn.ConvTranspose1d(6, 4, 3, stride=2, padding=1, output_padding=1), (3, 6, 7)),
    (nn.ConvTranspose1d(6, 4, 3, padding=2), (6, 7)),
    (nn.ConvTranspose1d(6, 4, 1, padding=1), (3, 6, 7)),
    (nn.ConvTranspose2d(6, 4, 2, stride=2), (3, 6, 5, 5)),
    (nn.ConvTranspose2d(6, 4, (3, 2), stride=(1, 3), padding=(1, 0), dilation=2), (3, 6, 5, 5)),
    (nn.ConvTranspose3d(6, 2, 3, stride=2), (2, 6, 3, 3, 3)),
    (Conv1D(5, 6), (3, 7, 6)),
]


@pytest.mark.filterwarnings("ignore:Using padding=.same.")
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)
def test_rows_times_matrix_is_the_layer(layer, shape):
    """The certificate of every unfolding: multiplying the rows gives the layer's own output."""
    layer = layer.double()
    ((call, output),) = calls_of(lambda: layer(numbers(*shape)))
    assert call.weight is layer.weight
    matrix = as_matrix(layer.weight, 1 - call.input_dim)
    blocks = input_blocks(call) @ matrix.unflatten(0, (call.groups, -1)).mT
    if call.bias is not None:
        assert call.bias is layer.bias
        blocks = blocks + call.bias.reshape(call.groups, 1, -1)
    expected = output_blocks(output, call.channel_dim, call.groups)
    torch.testing.assert_close(blocks, expected)
    assert torch.equal(expected.transpose(0, 1).flatten(1), output_rows(output, call.channel_dim))
    assert output_rows(output, call.channel_dim).shape[1] == layer.weight.shape[1 - call.input_dim]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.ConvTranspose1d(6, 4, 3, stride=2, groups=2), (3, 6, 7)),
        (nn.ConvTranspose2d(6, 9, (3, 2), padding=1, groups=3), (2, 6, 5, 4)),
        (nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1, groups=4, bias=False), (2, 4, 3, 3)),
    ],
    ids=str,
)
def test_groups_of_transposed_convolutions_are_columns_of_one_matrix(layer, shape):
    layer = layer.double()
    ((call, output),) = calls_of(lambda: layer(numbers(*shape)))
    matrix, blocks = as_matrix(layer.weight, call.rows), input_blocks(call)
    expected = output_blocks(output, call.channel_dim, call.groups)
    bias = torch.zeros(expected.shape[2] * call.groups) if call.bias is None else call.bias
    for group, columns in enumerate(column_blocks(call)):
        made = blocks[group] @ matrix[:, columns].T + bias.reshape(call.groups, -1)[group]
        torch.testing.assert_close(made, expected[group])


STACK, TURNED = parameter(3, 4, 6), parameter(3, 6, 4)
PLACES = numbers(5, 6)
CHOSEN, ENDS = torch.tensor([2, 0, 2, 2, 0]), torch.tensor([2, 2, 5], dtype=torch.int32)


def narrow(value):
    return nn.Parameter(value.detach().float())


@pytest.mark.parametrize(
    ("function", "stack", "slices"),
    [
        (lambda: functional.linear(PLACES, STACK[1]), STACK, [1] * 5),
        (lambda: functional.linear(PLACES, STACK[torch.tensor(2)]), STACK, [2] * 5),
        (lambda: functional.linear(PLACES, TURNED[0].T), TURNED, [0] * 5),
        (lambda: PLACES @ TURNED[2], TURNED, [2] * 5),
        (lambda: PLACES @ STACK[2].T, STACK, [2] * 5),
        (lambda: STACK[1] @ COLUMNS[0], STACK, [1] * 5),
        (lambda: torch.addmm(numbers(4), PLACES, TURNED[1]), TURNED, [1] * 5),
        (lambda: torch.bmm(numbers(3, 2, 6), TURNED), TURNED, [0, 0, 1, 1, 2, 2]),
        (lambda: torch.bmm(STACK, numbers(3, 6, 2)), STACK, [0, 0, 1, 1, 2, 2]),
        (lambda: numbers(3, 2, 6) @ STACK.mT, STACK, [0, 0, 1, 1, 2, 2]),
        (lambda: PLACES[:2] @ TURNED, TURNED, [0, 0, 1, 1, 2, 2]),
        (lambda: torch.bmm(STACK[CHOSEN], PLACES[:, :, None]), STACK, CHOSEN),
        (lambda: torch.bmm(PLACES[:, None], TURNED[CHOSEN]), TURNED, CHOSEN),
        (lambda: torch.bmm(PLACES[:, None], STACK[CHOSEN].mT), STACK, CHOSEN),
        (
            lambda: torch.bmm(STACK.index_select(0, CHOSEN), PLACES[:, :, None]),
            STACK,
            CHOSEN,
        ),
        (
            lambda: torch.ops.aten.bmm.default(
                torch.ops.aten.index.Tensor(STACK, [CHOSEN]), PLACES[:, :, None]
            ),
            STACK,
            CHOSEN,
        ),
    ],
)
@pytest.mark.parametrize("grad", [True, False])
def test_each_place_meets_one_slice_of_a_stack(function, stack, slices, grad):
    with torch.set_grad_enabled(grad):
        ((call, output),) = calls_of(function)
    assert call.weight is stack
    assert call.slices.tolist() == list(slices)
    matrices = as_matrix(stack, call.rows).unflatten(0, (call.groups, -1))
    bias = 0 if call.bias is None else call.bias
    made = output_rows(output, call.channel_dim)
    for matrix, x, y in zip(
        matrices, of_slices(input_blocks(call)[0], call), of_slices(made, call), strict=True
    ):
        torch.testing.assert_close(x @ matrix.T + bias, y)


@pytest.mark.parametrize("turned", [False, True])
def test_grouped_products_are_calls_of_slices(turned):
    """Their kernel wants rows that are multiples of 16 bytes, and single precision."""
    stack, x = narrow(numbers(3, 8, 4) if turned else numbers(3, 4, 8)), numbers(5, 8).float()
    view = stack if turned else stack.mT
    ((call, output),) = calls_of(lambda: functional.grouped_mm(x, view, offs=ENDS))
    assert call.slices.tolist() == [0, 0, 2, 2, 2]
    matrices = as_matrix(stack, call.rows).unflatten(0, (3, -1))
    made = torch.stack([matrices[k] @ row for k, row in zip(call.slices, x, strict=True)])
    torch.testing.assert_close(made, output)


RECURRENT = [
    nn.LSTM(4, 3, 2, bidirectional=True),
    nn.LSTM(4, 5, proj_size=3, batch_first=True),
    nn.LSTM(4, 3, 2, bidirectional=True, bias=False, proj_size=2),
    nn.GRU(4, 3, 2, bidirectional=True),
    nn.GRU(4, 3, bias=False, batch_first=True),
    nn.RNN(4, 3, 2),
    nn.RNN(4, 3, nonlinearity="relu", bidirectional=True),
]


@pytest.mark.filterwarnings("ignore:The tensor attributes self._flat_weights")
@pytest.mark.parametrize("layer", RECURRENT, ids=str)
@pytest.mark.parametrize("packed", [False, True])
def test_recurrent_layers_are_the_linear_maps_inside_them(layer, packed):
    layer = layer.double().eval()
    x = numbers(5, 3, 4)
    if packed:
        x = nn.utils.rnn.pack_padded_sequence(
            x,
            [5, 2, 4] if not layer.batch_first else [2, 3, 1, 3, 3],
            batch_first=layer.batch_first,
            enforce_sorted=False,
        )
    plain = layer(x)
    program = None if packed else torch.export.export(layer, (x,)).module()
    for model in (layer, program):
        if model is None:
            continue
        found = calls_of(lambda m=model: torch.testing.assert_close(tuple(m(x)), tuple(plain)))
        names = {id(value): name for name, value in model.named_parameters()}
        seen = {names[id(call.weight)] for call, _ in found}
        assert seen == {name for name, value in layer.named_parameters() if value.ndim == 2}
        for call, output in found:
            made = input_blocks(call)[0] @ call.weight.T
            made = made if call.bias is None else made + call.bias
            torch.testing.assert_close(made, output_rows(output, -1))


@pytest.mark.parametrize(
    "cell", [nn.LSTMCell(4, 3), nn.GRUCell(4, 3, bias=False), nn.RNNCell(4, 3)]
)
@pytest.mark.parametrize("given", [True, False])
def test_cells_are_the_linear_maps_inside_them(cell, given):
    cell, x, h = cell.double(), numbers(2, 4), numbers(2, 3, seed=1)
    state = (h, h.sin()) if isinstance(cell, nn.LSTMCell) else h
    plain = cell(x, state) if given else cell(x)
    found = calls_of(
        lambda: torch.testing.assert_close(cell(*((x, state) if given else (x,))), plain)
    )
    assert {id(call.weight) for call, _ in found} == {id(cell.weight_ih), id(cell.weight_hh)}


W, V = parameter(4, 6), parameter(6, 4)
KERNEL = parameter(4, 6, 1, 1)
X, COLUMNS = numbers(3, 5, 6), numbers(2, 6, 5)


@pytest.mark.parametrize(
    ("function", "weight", "input_dim"),
    [
        (lambda: functional.linear(X, W), W, 1),
        (lambda: functional.linear(input=X, weight=V.T), V, 0),
        (lambda: torch.matmul(X, V), V, 0),
        (lambda: X @ W.mT, W, 1),
        (lambda: X[0] @ V, V, 0),
        (lambda: X[0].mm(W.t()), W, 1),
        (lambda: torch.mm(X[0], mat2=V), V, 0),
        (lambda: torch.addmm(numbers(4), X[0], V), V, 0),
        (lambda: W @ COLUMNS, W, 1),
        (lambda: torch.matmul(V.T, COLUMNS), V, 0),
        (lambda: torch.mm(W, COLUMNS[0]), W, 1),
        (lambda: torch.mv(W, X[0, 0]), W, 1),
        (lambda: functional.linear(X, KERNEL[:, :, 0, 0]), KERNEL, 1),
        (lambda: functional.linear(X, KERNEL.squeeze()), KERNEL, 1),
        (lambda: functional.conv1d(COLUMNS, W[..., None]), W, 1),
        (lambda: torch.ops.aten.addmm.default(numbers(4), X[0], V), V, 0),
        (lambda: torch.ops.aten.mm.default(X[0], torch.ops.aten.t.default(W)), W, 1),
    ],
)
@pytest.mark.parametrize("grad", [True, False])
def test_products_with_a_parameter_are_calls(function, weight, input_dim, grad):
    with torch.set_grad_enabled(grad):
        ((call, output),) = calls_of(function)
    assert call.weight is weight
    assert call.input_dim == input_dim
    found = input_blocks(call)[0] @ as_matrix(weight, 1 - input_dim).T
    bias = 0 if call.bias is None else call.bias
    torch.testing.assert_close(found + bias, output_rows(output, call.channel_dim))


SQUARE = parameter(6, 6)


@pytest.mark.parametrize(
    "function",
    [
        lambda: X @ numbers(6, 4),  # no parameter
        lambda: W @ V,  # which one?
        lambda: torch.addmm(numbers(5, 4), X[0], V),  # the first summand is no bias
        lambda: torch.addmm(numbers(4), X[0], V, alpha=2.0),
        lambda: torch.bmm(COLUMNS, COLUMNS.mT),
        lambda: functional.embedding(torch.tensor([0, 1]), W),
    ],
)
def test_what_is_no_measured_product_is_no_call(function):
    assert calls_of(function) == []


def test_a_part_of_a_parameter_is_not_the_parameter():
    (part, _), (turned, _), (whole, _) = calls_of(
        lambda: [
            functional.linear(X, W[:2]),
            functional.linear(X, SQUARE.t()),
            functional.linear(X, SQUARE),
        ]
    )
    assert part.weight is not W
    assert turned.weight is SQUARE
    assert whole.weight is SQUARE
    assert (turned.input_dim, whole.input_dim) == (0, 1)


def test_a_weight_that_is_read_both_ways_has_no_statistics():
    module = nn.Module()
    module.w = SQUARE
    watched = Watched(module, ["w"])
    assert watched.name(Call(X, SQUARE, 1)) == "w"
    assert watched.name(Call(X, SQUARE, 0)) is None
    assert watched.both == {"w"}
    assert watched.name(Call(X, W)) is None


@pytest.mark.parametrize("grad", [True, False])
def test_attention_of_torch_is_seen_on_its_fast_path_too(grad):
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True).double().eval()
    model, x = nn.TransformerEncoder(layer, 2), numbers(3, 5, 8)
    plain = model(x)
    with torch.set_grad_enabled(grad):
        found = calls_of(lambda: torch.testing.assert_close(model(x), plain))
    names = {id(value): name for name, value in model.named_parameters()}
    assert [names[id(call.weight)] for call, _ in found] == [
        f"layers.{i}.{part}"
        for i in range(2)
        for part in (
            "self_attn.in_proj_weight",
            "self_attn.out_proj.weight",
            "linear1.weight",
            "linear2.weight",
        )
    ]
    for call, output in found:
        made = input_blocks(call)[0] @ call.weight.T + call.bias
        torch.testing.assert_close(made, output_rows(output, -1))


def test_attention_with_weights_of_its_own_for_keys_and_values_is_seen():
    layer = nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True).double()
    found = calls_of(lambda: layer(numbers(2, 3, 8), numbers(2, 5, 6), numbers(2, 5, 4)))
    weights = [layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight, layer.out_proj.weight]
    assert [id(call.weight) for call, _ in found] == [id(weight) for weight in weights]


def test_graphs_make_the_calls_of_their_modules():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ConvTranspose2d(4, 6, 3, stride=2),
        nn.Flatten(2),
        Conv1D(5, 81),
    ).double()
    x = numbers(2, 3, 6, 6)
    program = torch.export.export(model, (x,)).module()
    names = {id(value): name for name, value in program.named_parameters()}
    found = calls_of(lambda: program(x))
    assert [names[id(call.weight)] for call, _ in found] == ["0.weight", "1.weight", "3.weight"]
    for (seen, made), (call, output) in zip(found, calls_of(lambda: model(x)), strict=True):
        assert torch.equal(input_blocks(seen), input_blocks(call))
        assert torch.equal(made, output)
        assert (seen.input_dim, seen.channel_dim) == (call.input_dim, call.channel_dim)
