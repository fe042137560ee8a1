"""One recorded pass finds what torch.export finds, and leaves to it what values decide."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import graphs.calls.export
from graphs import trace
from graphs.build.interpreter import Running
from graphs.calls.recording import CannotRecordError, record
from graphs.calls.running import as_inputs, quiet_evaluation
from graphs.cost import count_macs
from graphs.relate.trace import reopened
from tests.oracles.networks.families import FAMILIES, build, run


def structure(net):
    axes = {name: (a.size, a.kind, a.frozen is None, a.exactness) for name, a in net.axes.items()}
    tensors = {name: (t.dims, t.role, t.produces) for name, t in net.tensors.items()}
    return axes, tensors, count_macs(net)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_network_is_the_one_that_export_finds(name):
    net = trace(*build(name))
    assert net.program.recorded
    exported = reopened(net)
    assert not exported.program.recorded
    assert structure(net) == structure(exported)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_recorded_program_computes_the_model(name):
    model, inputs = build(name, torch.float64)
    net = trace(model, inputs)
    args, kwargs = as_inputs(inputs)
    program = Running(net, {key: tensor.value for key, tensor in net.tensors.items()})
    with torch.no_grad():
        found = program(*args, **kwargs)
    expected = run(model, inputs)
    expected = list(expected.values()) if isinstance(expected, dict) else [expected]
    for got, value in zip(found, expected, strict=True):
        torch.testing.assert_close(got, value, rtol=0, atol=1e-12)


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.register_buffer("mask", torch.tensor([True, False, True, True]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


class Branch(Parts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x if x.sum() > 0 else -x))


class Listed(Parts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x * max(x.flatten().tolist())))


class Numpy(Parts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x * float(x.numpy().max())))


class Chosen(Parts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x[x[:, 0] > 0]))


class Masked(Parts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, self.mask]


class Entries(Parts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x * torch.tensor([x[0, 0], x[0, 1], 1.0, 1.0])))


class Remembers(Parts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.first.bias.data.add_(1)
        return self.second(self.first(x))


LOOK = [Branch, Listed, Numpy, Chosen, Masked, Entries, Remembers]


@pytest.mark.parametrize("kind", LOOK, ids=lambda kind: kind.__name__)
def test_what_values_decide_is_not_recorded(kind):
    with pytest.raises(CannotRecordError):
        record(kind().eval(), (torch.ones(2, 4),), {})


class Decides(Parts):
    """Looks at numbers that follow from the forward alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rates = [float(rate) for rate in torch.linspace(0, 1, 3)]
        y = self.first(x) * rates[1] + torch.arange(5).max().item() * torch.tensor(0.5)
        y[0] = 0
        return self.second(y)


def test_numbers_of_the_forward_itself_may_decide():
    net = trace(Decides(), (torch.ones(2, 4),))
    assert net.program.recorded
    assert net.axes["first.out"].frozen is None


class Attends(Parts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.attention(x, x, x, need_weights=False)
        if torch.compiler.is_exporting():
            y = y + 1
        return y


def test_a_pass_goes_the_way_that_export_goes():
    model = Attends().eval()
    tape = record(model, (torch.ones(2, 3, 4),), {})
    calls = [str(node.target) for node in tape.graph.nodes if node.op == "call_function"]
    assert "aten.scaled_dot_product_attention.default" in calls
    assert not any("native_multi_head" in call for call in calls)
    assert calls[-1] == "aten.add.Tensor"
    assert not torch.compiler.is_exporting()
    assert torch.backends.mha.get_fastpath_enabled()


def test_calls_know_their_module_and_their_line():
    net = trace(Parts(), (torch.ones(2, 4),))
    calls = [node for node in net.program.graph.nodes if node.op == "call_function"]
    assert [net.program.modules[node.name] for node in calls] == ["first", "second"]
    assert all('test_recording.py", line' in node.meta["stack_trace"] for node in calls)


def test_the_pass_leaves_no_trace():
    class Failing(Parts):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen = self.first(x)
            raise ZeroDivisionError

    model = Failing().eval()
    with pytest.raises(ZeroDivisionError):
        record(model, (torch.ones(2, 4),), {})
    assert not torch.compiler.is_exporting()
    x = torch.ones(2, 4)
    assert (model.seen * 2).shape == (2, 5)
    model.second(model.seen).sum().backward()
    assert vars(x) == {}
    assert all(vars(p) == {} for p in model.parameters())


def test_export_decides_where_a_pass_cannot(monkeypatch):
    monkeypatch.setattr(graphs.calls.export, "record", lambda *_: 1 / 0)
    net = trace(*build("mlp"))
    assert not net.program.recorded


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_network_does_not_depend_on_the_number_of_examples(batch):
    model, _ = build("resnet_projection")
    expected = structure(trace(model, (torch.randn(3, 3, 8, 8),)))
    assert structure(trace(model, (torch.randn(batch, 3, 8, 8),))) == expected


def test_arguments_keep_their_names_and_nesting():
    class Nested(Parts):
        def forward(self, pair, *, scale=1.0, x=None):
            return {"y": self.second(self.first(pair[0] + pair[1]) * scale), "x": x, "n": 3}

    a, b, x = torch.randn(2, 4), torch.randn(2, 4), torch.randn(2)
    model = Nested().eval()
    with quiet_evaluation(model):
        tape = record(model, ((a, b),), {"x": x, "scale": 2.0})
    places = [node.name for node in tape.graph.nodes if node.op == "placeholder"]
    assert places == ["pair_0", "pair_1", "x", "scale"]
    module = torch.fx.GraphModule(model, tape.graph)
    result = module((a, b), x=x, scale=2.0)
    torch.testing.assert_close(result["y"], model((a, b), scale=2.0)["y"])
    assert result["x"] is x
    assert result["n"] == 3
