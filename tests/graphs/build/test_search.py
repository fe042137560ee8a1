"""Readings of attributes are tried, module by module where one name has several."""

from __future__ import annotations

import torch
from torch import nn

from graphs import trace
from graphs.build.rebuild import graph_model, rebuild
from graphs.build.search import following
from graphs.calls.running import outputs


class Views(nn.Module):
    """Its one attribute restates what it reads, or what it makes."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 8), nn.Linear(8, 8)
        self.dim, self.reads = 8, reads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, self.dim if self.reads else x.shape[-1])
        y = self.up(x)
        return x + self.down(y.view(-1, y.shape[-1] if self.reads else self.dim).relu())


def test_one_name_is_read_in_another_way_in_another_module():
    torch.manual_seed(0)
    parts = [Views(True), Views(False), Views(True), Views(False)]
    model = nn.Sequential(nn.Linear(5, 8), *parts, nn.Linear(8, 3)).eval()
    x = torch.randn(2, 5)
    net = trace(model, (x,))
    small = net.remove({"0.out": [1], **{f"{i}.up.out": [0, 2] for i in range(1, 5)}})
    made = rebuild(small)
    assert type(made.model) is nn.Sequential
    assert [made.model[i].dim for i in range(1, 5)] == [7, 6, 7, 6]
    torch.testing.assert_close(made.model(x), graph_model(small)(x))


def test_how_far_a_forward_came():
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(5, 2)))
    with following(model) as progress:
        failure = outputs(model, ((torch.randn(2, 3),), {}))
    assert isinstance(failure, RuntimeError)
    assert progress.inside == ["", "1", "1.1"]
    assert progress.ended == 2
    with following(model[0]) as progress:
        model[0](torch.randn(2, 3))
    assert (progress.inside, progress.ended) == ([], 1)
    with following(model[1]) as progress:
        model[0](torch.randn(2, 3))
    assert progress.ended == 0
