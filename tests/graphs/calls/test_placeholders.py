"""What a recording does not compute leaves no trace: not in the graph, nor in the model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from graphs.calls import recording
from graphs.calls.nested import leaves
from graphs.calls.placeholders import stand_in
from graphs.calls.running import as_inputs, quiet_evaluation
from tests.oracles.networks.families import FAMILIES, build

aten = torch.ops.aten


def written(recorded):
    """Every call with its arguments, and the shape, strides and dtype of what it gives."""
    found = []
    for node in recorded.graph.nodes:
        given = [v for v in leaves(node.meta.get("val")) if isinstance(v, torch.Tensor)]
        kinds = [(tuple(v.shape), v.stride(), v.dtype) for v in given]
        found.append((node.op, str(node.target), str(node.args), str(node.kwargs), kinds))
    return found


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_graph_is_the_one_of_a_computed_pass(name, layout):
    model, inputs = build(name)
    args, kwargs = as_inputs(inputs)
    if args and args[0].dim() == 4:
        args = (args[0].to(memory_format=layout), *args[1:])
    with quiet_evaluation(model):
        found = recording._record(model, args, kwargs, compute=False)
        assert written(found) == written(recording._record(model, args, kwargs, compute=True))


class Keeps(nn.Module):
    """Leaves a feature behind, as models with caches and hooks do."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.head, self.how = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x).relu()
        if self.how == "attribute":
            self.kept = y
        if self.how == "list":
            self.kept = {"all": [y * 2]}
        if self.how == "outside":
            OUTSIDE.append(y)
        y = y.mean((2, 3))
        return self.head(y)


OUTSIDE: list[torch.Tensor] = []


@pytest.mark.parametrize("how", ["attribute", "list"])
def test_a_model_keeps_nothing_of_the_pass(how):
    model = Keeps(how).eval()
    assert trace(model, (torch.randn(2, 3, 6, 6),)).program.recorded
    assert not hasattr(model, "kept")


def test_what_outlives_the_pass_is_real():
    model, x = Keeps("outside").eval(), torch.randn(2, 3, 6, 6)
    assert trace(model, (x,)).program.recorded
    with torch.no_grad():
        assert torch.equal(OUTSIDE.pop(), model.conv(x).relu())
    OUTSIDE.clear()


def test_hooks_see_what_the_layers_give():
    model, x, seen = Keeps("nothing").eval(), torch.randn(1, 3, 6, 6), []
    model.conv.register_forward_hook(lambda module, inputs, output: seen.append(output))
    trace(model, (x,))
    with torch.no_grad():
        assert torch.equal(seen[-1], torch.conv2d(x, model.conv.weight, model.conv.bias))


def test_a_forward_that_fails_on_zeros_is_computed():
    class Factor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.first(x)
            return self.last(torch.linalg.cholesky(y.mT @ y))

    assert trace(Factor().double(), (torch.randn(8, 4).double(),)).program.recorded


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (aten.linear.default, (torch.ones(2, 3), torch.ones(4, 5))),
        (aten.linear.default, (torch.ones(2, 3), torch.ones(4, 3).double())),
        (aten.linear.default, (torch.ones(2, 3), torch.ones(4, 3, device="meta"))),
        (aten.linear.default, (torch.ones(3, 2).mT, torch.ones(4, 3))),
        (aten.linear.default, (torch.ones(2, 3), torch.ones(4, 3), torch.ones(5))),
        (aten.conv1d.default, (torch.ones(1, 3, 8), torch.ones(4, 3, 2), torch.ones(5))),
        (aten.conv1d.default, (torch.ones(1, 3, 8), torch.ones(4, 3, 2).double())),
        (aten.batch_norm.default, (torch.ones(2, 3), *[torch.ones(3)] * 4, True, 0.1, 1e-5, False)),
        (
            aten.batch_norm.default,
            (torch.ones(2, 3), *[torch.ones(4)] * 4, False, 0.1, 1e-5, False),
        ),
        (aten.relu.default, (torch.ones(2),)),
    ],
)
def test_what_may_fail_or_is_another_call_must_run(function, args):
    assert stand_in(function, args) is None


def test_shapes_that_do_not_fit_fail_as_the_call_does():
    with pytest.raises(RuntimeError):
        stand_in(aten.conv1d.default, (torch.ones(1, 2, 8), torch.ones(4, 3, 2), None))
