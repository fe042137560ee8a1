"""Bad input: every error says what was wrong, where, and what to do; unknown operators freeze."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import FrozenAxisError, TraceError, trace
from graphs.calls.diagnosis import CAUSES, UNKNOWN, not_exportable
from graphs.calls.export import export
from tests.oracles.networks.families import FAMILIES, build, run
from tests.oracles.networks.refused import REFUSED, Two, marked_line


class Sorting(nn.Module):
    """`aten.special_bessel_j1` has no rule: its axis must freeze, the others stay free."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.b(torch.special.bessel_j1(self.a(x)))))


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_traced_is_refused_with_line_and_remedy(name, capfd):
    cls, words = REFUSED[name]
    with pytest.raises(TraceError, match=f"(?s){words}") as caught:
        export(cls(), ((torch.ones(2, 4),), {}))
    line = marked_line(cls)
    if line is not None:
        assert caught.value.place is not None
        assert caught.value.place.line == line
        assert f"refused.py:{line}" in str(caught.value)
        assert caught.value.place.code in str(caught.value)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["Branch", "Loop", "Assertion", "Number", "Range", "Broken"])
def test_tracing_refuses_them_in_the_same_words(name, capfd):
    cls, words = REFUSED[name]
    with pytest.raises(TraceError, match=f"(?s){words}") as caught:
        trace(cls(), (torch.ones(2, 4),))
    assert f"refused.py:{marked_line(cls)}" in str(caught.value)
    assert capfd.readouterr().err == ""


def test_every_known_cause_has_reason_and_remedy():
    for cause in (*CAUSES, UNKNOWN):
        assert cause.reason
        assert cause.remedy.endswith(".")


def test_an_unknown_failure_keeps_the_words_of_torch_and_the_place():
    try:
        raise KeyError("no such thing")
    except KeyError as error:
        told = not_exportable(nn.ReLU(), error)
    assert "no such thing" in str(told)
    assert "test_diagnosis.py" in str(told)


def test_wrong_example_inputs_are_named():
    model, _ = build("mlp")
    with pytest.raises(TraceError, match=r"does not run on the example inputs \(float32\[2, 5\]\)"):
        trace(model, (torch.ones(2, 5),))
    with pytest.raises(TraceError, match="example_inputs must be a tuple"):
        trace(model, 3)


def test_unknown_operator_freezes_its_axis_and_says_where():
    model = Sorting().double()
    inputs = (torch.randn(2, 4, dtype=torch.float64),)
    net = trace(model, inputs)
    assert "no rule for the operator (aten.special_bessel_j1" in net.axes["a.out"].frozen
    assert "test_diagnosis.py" in net.axes["a.out"].frozen
    assert net.axes["b.out"].frozen is None
    small = net.remove("b.out", [1, 3])
    assert run(small.to_model(), inputs).shape == (2, 3)


def test_frozen_axes_refuse_change():
    net = trace(*build("mlp"))
    with pytest.raises(FrozenAxisError, match=r"'4\.out' is left alone: output of the model"):
        net.remove("4.out", [0])
    with pytest.raises(FrozenAxisError):
        net.permute("4.out", [1, 0, 2, 3])


@pytest.mark.parametrize("indices", [[0, 0], [12], [-1], list(range(12))])
def test_bad_indices_are_refused(indices):
    net = trace(*build("mlp"))
    with pytest.raises(ValueError, match=r"0\.out"):
        net.remove("0.out", indices)


def test_bad_permutation_and_unknown_names_are_refused():
    net = trace(*build("mlp"))
    with pytest.raises(ValueError, match="permutation"):
        net.permute("0.out", [0] * 12)
    with pytest.raises(KeyError, match="groups"):
        net.remove("nowhere", [0])
    with pytest.raises(ValueError, match=r"0\.weight: expected shape"):
        net.replace({"0.weight": torch.zeros(1)})


def test_the_model_is_left_as_it_was():
    model, inputs = build("llama")
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    net = trace(model, inputs)
    net.remove({a.name: [0] for a in net.axes.values() if not a.frozen}).to_model()
    assert model.training
    assert model.config.use_cache
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@torch.library.custom_op("metaprune_tests::thrice", mutates_args=())
def thrice(x: torch.Tensor) -> torch.Tensor:
    """An operator that says its shape, and has no rule."""
    return x * 3


@thrice.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


class Custom(Two):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(thrice(self.a(x))))


def test_a_custom_operator_that_says_its_shape_is_left_alone():
    net = trace(Custom(), (torch.ones(2, 4),))
    assert "no rule for the operator (metaprune_tests.thrice" in net.axes["a.out"].frozen


class Selected(nn.Module):
    """The number of rows after the mask depends on values; the units do not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.a(x))
        rows = torch.nonzero(x.sum(1) > 0).squeeze(1)
        return self.c(torch.relu(self.b(h[rows])))


def test_shapes_that_depend_on_values_cost_no_freedom_elsewhere():
    torch.manual_seed(0)
    model, x = Selected(), torch.randn(9, 4)
    net = trace(model, (x,))
    assert net.axes["b.out"].frozen is None
    expected = model(x)
    assert 0 < len(expected) < 9
    values = {n: t.value.clone() for n, t in net.tensors.items()}
    for name, axis in (("b.weight", 0), ("b.bias", 0)):
        values[name].index_fill_(axis, torch.tensor([2]), 0)
    dead = net.replace(values)
    small = dead.remove("b.out", [2]).to_model()
    torch.testing.assert_close(small(x), dead.to_model()(x))
    assert len(small(x[:4])) == len(dead.to_model()(x[:4]))


def test_shapes_that_depend_on_values_need_values():
    x = torch.randn(9, 4, device="meta")
    with pytest.raises(TraceError, match=r"nonzero.*meta device") as caught:
        trace(Selected().to("meta"), (x,))
    assert "test_diagnosis.py" in str(caught.value)


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per")
@pytest.mark.parametrize(
    ("build_model", "words"),
    [
        (lambda: torch.jit.script(plain()), "the model .* is TorchScript.*Trace the Python module"),
        (lambda: nn.Sequential(torch.jit.script(plain())), r"0 .* is TorchScript"),
        (
            lambda: torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear}),
            "0 .* is quantized.*Prune the float model first",
        ),
        (lambda: nn.Sequential(nn.LazyLinear(3)), "0.weight has no shape yet.*Run the model once"),
        (lambda: plain().forward, "must be a torch.nn.Module"),
    ],
)
def test_what_is_known_not_to_work_is_refused_at_once(build_model, words):
    with pytest.raises(TraceError, match=words):
        trace(build_model(), (torch.ones(2, 4),))


class Wrapped(torch.Tensor):
    """A tensor that hides how it is stored, as those of quantized weights do."""


def test_tensors_that_are_not_plain_are_refused():
    model = plain()
    model.register_buffer("packed", torch.zeros(3).as_subclass(Wrapped))
    with pytest.raises(TraceError, match=r"packed is a Wrapped, a quantized or sharded tensor"):
        trace(model, (torch.ones(2, 4),))


# Importing the compiler warns of its own use of TorchScript.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_wrappers_are_looked_through(wrap):
    model, x = plain(), torch.ones(2, 4)
    net = trace(wrap(model), (x,))
    assert list(net.tensors) == list(dict(model.named_parameters()))
    back = net.to_model()
    assert type(back) is nn.Sequential
    assert torch.equal(back(x), model(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_parts_are_traced_as_written():
    torch._dynamo.reset()
    model = nn.Sequential(torch.compile(nn.Linear(4, 6)), nn.Linear(6, 3))
    net = trace(model, (torch.ones(2, 4),))
    assert sum(axis.frozen is None for axis in net.axes.values()) == 1
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 0


def test_hooks_are_traced_and_stay():
    model, x = plain(), torch.randn(2, 4)
    model[0].register_forward_hook(lambda module, args, out: out * 2)
    model[2].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    net = trace(model, (x,))
    assert torch.equal(net.to_model()(x), model(x))
    small = net.remove("0.out", [0]).to_model()
    cut = net.replace({"2.weight": net.tensors["2.weight"].value.clone().index_fill_(
        1, torch.tensor([0]), 0)})  # fmt: skip
    torch.testing.assert_close(small(x), cut.to_model()(x))
    assert len(model[0]._forward_hooks) == 1


def test_devices_that_do_not_meet_are_named():
    x = torch.ones(2, 4)
    with pytest.raises(TraceError, match=r"inputs to the model, with `\.to\('meta'\)`.*on cpu"):
        trace(plain().to("meta"), (x,))
    with pytest.raises(TraceError, match=r"with `\.to\('cpu'\)`.*the inputs on meta"):
        trace(plain(), (x.to("meta"),))
    mixed = plain()
    mixed[0].to("meta")
    with pytest.raises(TraceError, match=r"cpu and meta are mixed, with 0\.weight, 0\.bias"):
        trace(mixed, (x,))


def test_no_weights_are_needed_to_trace():
    real = trace(*FAMILIES["llama"]())
    with torch.device("meta"):
        net = trace(*FAMILIES["llama"]())
    assert {n: (a.size, a.frozen, a.exactness) for n, a in net.axes.items()} == {
        n: (a.size, a.frozen, a.exactness) for n, a in real.axes.items()
    }


class Decides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x)
        h = torch.cond(h.sum() > 0, lambda t: t * 2, lambda t: -t, (h,))
        return self.c(torch.relu(self.b(h)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_remedy_for_branches_works():
    model, x = Decides(), torch.randn(2, 4)
    net = trace(model, (x,))
    assert "no rule for the operator (cond at" in net.axes["a.out"].frozen
    small = net.remove("b.out", [0]).to_model()
    weight = net.tensors["c.weight"].value.clone()
    weight[:, 0] = 0
    expected = net.replace({"c.weight": weight}).to_model()
    for sign in (1, -1):
        torch.testing.assert_close(run(small, (sign * x,)), run(expected, (sign * x,)))
