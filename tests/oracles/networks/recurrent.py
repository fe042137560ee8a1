"""Recurrent layers and cells."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.oracles.networks.cases import Model, case, sequence

Pair = tuple[nn.Module, Any]


def layer(cell: nn.Module, width: int, time: int = 1) -> Pair:
    """A recurrent layer between two linear ones."""
    model = Model(
        lambda m, x: m.head(m.rnn(torch.tanh(m.embed(x)))[0].mean(time)),
        embed=nn.Linear(4, 6),
        rnn=cell,
        head=nn.Linear(width, 3),
    )
    return model, (sequence(),)


@case("embed.out rnn.out.feature")
def lstm() -> Pair:
    return layer(nn.LSTM(6, 8, batch_first=True), 8)


@case("embed.out rnn.out.feature")
def lstm_time_first() -> Pair:
    return layer(nn.LSTM(6, 8), 8, 0)


@case("embed.out rnn.out.feature")
def lstm_without_bias_three_layers() -> Pair:
    return layer(nn.LSTM(6, 8, num_layers=3, bias=False, batch_first=True), 8)


@case("embed.out rnn.out.feature")
def lstm_bidirectional_two_layers() -> Pair:
    return layer(nn.LSTM(6, 8, 2, bidirectional=True, batch_first=True, dropout=0.1), 16)


@case("embed.out rnn.out.feature rnn.out")
def lstm_projected() -> Pair:
    return layer(nn.LSTM(6, 8, 2, proj_size=5, bidirectional=True, batch_first=True), 10)


@case("embed.out rnn.out.feature")
def gru() -> Pair:
    return layer(nn.GRU(6, 8, batch_first=True), 8)


@case("embed.out rnn.out.feature")
def gru_bidirectional_two_layers() -> Pair:
    return layer(nn.GRU(6, 8, 2, bidirectional=True, batch_first=True), 16)


@case("embed.out rnn.out")
def rnn_tanh() -> Pair:
    return layer(nn.RNN(6, 8, batch_first=True), 8)


@case("embed.out rnn.out")
def rnn_relu_two_layers() -> Pair:
    return layer(nn.RNN(6, 8, 2, nonlinearity="relu", batch_first=True), 8)


@case("state.out")
def lstm_state_from_a_layer() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        h = m.state(x.mean(1))[None]
        out, (h, c) = m.rnn(x, (h, torch.tanh(h)))
        return m.head(out[:, -1]) + m.head(c[0])

    parts = {"state": nn.Linear(4, 8), "rnn": nn.LSTM(4, 8, batch_first=True)}
    return Model(forward, **parts, head=nn.Linear(8, 3)), (sequence(),)


@case()
def gru_state_given() -> Pair:
    model = Model(
        lambda m, x, h: m.head(m.rnn(x, h)[0]),
        rnn=nn.GRU(4, 8, batch_first=True),
        head=nn.Linear(8, 3),
    )
    return model, (sequence(), torch.randn(1, 2, 8))


@case("encoder.out.feature")
def lstm_encoder_decoder() -> Pair:
    def forward(m: Any, x: Any, y: Any) -> Any:
        _, state = m.encoder(x)
        out, _ = m.decoder(y, state)
        return m.head(out)

    parts = {
        "encoder": nn.LSTM(4, 8, batch_first=True),
        "decoder": nn.LSTM(3, 8, batch_first=True),
        "head": nn.Linear(8, 3),
    }
    return Model(forward, **parts), (sequence(), sequence(3))


def loop(cell: nn.Module) -> Pair:
    def forward(m: Any, x: Any) -> Any:
        state = None
        for step in torch.relu(m.embed(x)).unbind(1):
            state = m.cell(step, state)
        return m.head(state[0] if isinstance(state, tuple) else state)

    return Model(forward, embed=nn.Linear(4, 6), cell=cell, head=nn.Linear(8, 3)), (sequence(),)


@case("embed.out cell.out.feature")
def lstm_cell() -> Pair:
    return loop(nn.LSTMCell(6, 8))


@case("embed.out cell.out.feature")
def gru_cell() -> Pair:
    return loop(nn.GRUCell(6, 8))


@case("embed.out cell.out")
def rnn_cell() -> Pair:
    return loop(nn.RNNCell(6, 8))


@case("conv.out rnn.out.feature")
def convolutional_recurrent() -> Pair:
    """Characters of a picture (CRNN): channels × height read from left to right."""

    def forward(m: Any, x: Any) -> Any:
        y = torch.relu(m.conv(x)).flatten(1, 2).transpose(1, 2)
        return m.head(m.rnn(y)[0])

    parts = {
        "conv": nn.Conv2d(3, 6, 3, padding=1),
        "rnn": nn.LSTM(48, 8, bidirectional=True, batch_first=True),
        "head": nn.Linear(16, 3),
    }
    return Model(forward, **parts), (torch.randn(2, 3, 8, 5),)
