"""A copy runs with what it has, or is refused."""

from __future__ import annotations

import io
import sys
import threading

import pytest
import torch
from torch import nn

from graphs import TraceError, trace
from graphs.calls.copying import copy_module, working_copy
from tests.graphs.calls.entangled import HOOKS, REFUSED, WRAPPERS, Kept, Plain


def _entangled(name):
    torch.manual_seed(0)
    if name in HOOKS:
        return Kept().hooked(HOOKS[name]).eval()
    model = Plain().eval()
    WRAPPERS[name](model)
    return model


INPUT = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("name", [*HOOKS, *WRAPPERS])
def test_a_copy_is_independent(name, warm):
    model = _entangled(name)
    if warm:
        model(torch.randn(3, 6))
    before = dict(getattr(model, "kept", {}))
    made = copy_module(model, {})
    own, theirs = made(INPUT), model(INPUT).detach()
    assert torch.equal(own, theirs)
    if before:
        model.kept = before
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert torch.equal(made(INPUT), own), "it follows the original"
    assert not torch.equal(model(INPUT), own)
    if before:
        assert model.kept is not made.kept
    made(INPUT).sum().backward()
    reached = [p.grad is not None for p in made.parameters()]
    assert all(reached) or (name == "no_grad" and reached == [False, False, True, True, True, True])
    assert not any(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", [*HOOKS, *WRAPPERS])
def test_what_comes_back_from_a_trace_is_independent(name):
    model = _entangled(name)
    expected = model(INPUT).detach()
    kept = {key: id(value) for key, value in getattr(model, "kept", {}).items()}
    made = trace(model, (INPUT,)).to_model()
    assert torch.equal(made(INPUT), expected)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2)
    assert not torch.equal(made(INPUT), expected)
    assert {key: id(value) for key, value in getattr(model, "kept", {}).items()} == kept
    assert torch.equal(model(INPUT), expected)


@pytest.mark.parametrize("name", [*HOOKS, *WRAPPERS])
def test_pruned_shapes_run(name):
    net = trace(_entangled(name), (INPUT,))
    axis = net.tensors["one.weight"].dims[0].axis
    made = net.remove(axis, [0, 3]).to_model()
    assert made(INPUT).shape == (2, 3)
    assert made.one.out_features == 6


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_cannot_follow_is_refused(name):
    hook, word = REFUSED[name]
    model = Kept().hooked(hook).eval()
    model(INPUT)
    with pytest.raises(TraceError, match=word):
        trace(model, (INPUT,))


def test_an_exported_program_with_the_original_in_it_is_refused():
    class Deciding(Plain):
        def forward(self, x):
            x = torch.relu(self.two(torch.relu(other[0].one(x))))
            return self.end(x) if bool(torch.tensor(1.0) > 0) else x

    other = [None]  # a closure of the class, which a copy shares
    other[0] = model = Deciding().eval()
    with pytest.raises(TraceError, match=r"one\.weight of the original"):
        trace(model, (INPUT,))


@pytest.mark.parametrize(
    "held",
    [
        threading.Lock(),
        threading.Event(),
        io.StringIO("text"),
        sys.stderr,
        (n for n in range(3)),
        threading.local(),
    ],
    ids=lambda held: type(held).__name__,
)
def test_what_is_no_part_of_the_model_and_cannot_be_copied_is_shared(held):
    model = Plain().eval()
    model.held, model.one.many = held, [{"held": held}]
    made = working_copy(model)
    assert made(INPUT).shape == (2, 3)
    assert isinstance(made.held, type(held))


def test_functions_that_hold_nothing_of_the_model_are_shared():
    seen = []

    def hook(module, args, out):
        seen.append(out.shape)

    model = Plain().eval()
    model.one.register_forward_hook(hook)
    made = copy_module(model, {})
    assert list(made.one._forward_hooks.values()) == [hook]
    made(INPUT)
    assert seen == [(2, 8)]


def test_names_of_attributes_are_no_global_names():
    space = {"model": Plain().eval()}
    exec("def hook(module, args, out): return module.__dict__.get('model') or out", space)
    exec("def other(module, args, out): return out if not hasattr(out, 'x') else out.model", space)
    for one in ("hook", "other"):
        space["model"].one.register_forward_hook(space[one])
    assert trace(space["model"], (INPUT,)).to_model()(INPUT).shape == (2, 3)


class Counting(nn.Module):
    """Buffers that change in evaluation mode too: a counter, a moving average, a maximum."""

    def __init__(self):
        super().__init__()
        self.one, self.end = nn.Linear(6, 8), nn.Linear(8, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(8), persistent=False)
        self.register_buffer("most", torch.zeros(()))

    def forward(self, x):
        x = torch.relu(self.one(x))
        self.calls += 1
        self.mean.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        self.most = torch.maximum(self.most, x.detach().max())
        return self.end(x / (1 + self.most))


def test_a_working_copy_runs_without_a_trace_in_the_model():
    model = Counting().eval()
    tables = {id(m): dict(m._buffers) for m in model.modules()}
    versions = {name: b._version for name, b in model.named_buffers()}
    made = working_copy(model)
    made(INPUT)
    assert made.calls == 1
    assert all(dict(m._buffers) == tables[id(m)] for m in model.modules())
    assert {name: b._version for name, b in model.named_buffers()} == versions
    assert made.one.weight.data_ptr() == model.one.weight.data_ptr()


def test_graphs_that_are_alive_can_still_be_differentiated():
    model = Counting()
    out = model(INPUT).sum()
    trace(model, (INPUT,)).to_model()
    out.backward()
    assert model.one.weight.grad is not None
