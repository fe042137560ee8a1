"""Rebuilt modules: own class where it fits, else the program; trainable, tied, any batch size."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from graphs import trace
from graphs.build.attention import AnyWidthAttention
from graphs.build.rebuild import graph_model, rebuild
from graphs.cost import count_macs, count_params
from graphs.program.module import ExportedModule
from tests.oracles.networks.families import FAMILIES, build, run
from tests.oracles.networks.language import LANGUAGE_MODELS, language_model


def halved(net, but=()):
    """Every free axis cut to half of its units, but for some kinds."""
    free = [a for a in net.axes.values() if not a.frozen and a.kind not in but]
    return net.remove({a.name: range(a.size // 2) for a in free})


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_pruned_model_runs_and_trains(name):
    model, inputs = build(name)
    net = trace(model, inputs)
    small = halved(net)
    pruned = small.to_model()
    out = run(pruned, inputs)
    assert out.shape == run(model, inputs).shape
    assert torch.isfinite(out).all()
    assert sum(p.numel() for p in pruned.parameters()) == count_params(small)
    assert count_params(small) == count_params(net, {a.name: a.size for a in small.axes.values()})
    assert count_macs(small) == count_macs(net, {a.name: a.size for a in small.axes.values()})
    assert count_macs(small) < count_macs(net)
    pruned.train()
    result = pruned(**inputs) if isinstance(inputs, dict) else pruned(*inputs)
    (result.logits if hasattr(result, "logits") else result).square().mean().backward()
    grads = [p.grad for p in pruned.parameters()]
    assert any(g is not None and g.abs().sum() > 0 for g in grads)


def test_constants_baked_into_a_closure_are_rewritten_in_the_program():
    model, inputs = build("resnet_option_a", torch.float64)
    pruned = halved(trace(model, inputs)).to_model()
    assert isinstance(pruned, ExportedModule)
    assert run(pruned, (torch.randn(5, 3, 8, 8, dtype=torch.float64),)).shape == (5, 5)
    assert not pruned.training
    before = pruned.get_buffer("1.running_mean").clone()
    run(pruned, inputs)
    assert torch.equal(before, pruned.get_buffer("1.running_mean"))
    pruned.train()
    run(pruned, inputs)
    assert not torch.equal(before, pruned.get_buffer("1.running_mean"))
    pruned.eval()
    assert torch.equal(run(pruned, inputs), run(pruned, inputs))


@pytest.mark.parametrize("name", ["resnet_projection", "vit", "llama", "group_norm"])
def test_the_class_stays_where_its_forward_fits(name):
    # Llama reads one head size for queries, keys and values; without its values' it stays a Llama.
    model, inputs = build(name)
    but = ("head feature",) if name == "llama" else ()
    assert type(halved(trace(model, inputs), but).to_model()) is type(model)


def test_ties_stay_tied():
    model, inputs = build("llama")
    net = trace(model, inputs)
    for pruned in (halved(net).to_model(), halved(net, ("head feature",)).to_model()):
        assert pruned.lm_head.weight is pruned.model.embed_tokens.weight
        assert list(pruned.state_dict()) == list(model.state_dict())


def test_macs_agree_with_torch():
    from torch.utils.flop_counter import FlopCounterMode

    for name in ("plain_cnn_flatten", "resnet_option_a", "inverted_residual_squeeze_excitation"):
        model, inputs = build(name)
        counter = FlopCounterMode(display=False)
        with counter:
            run(model, inputs)
        batch = inputs[0].shape[0]
        assert count_macs(trace(model, inputs)) == counter.get_total_flops() // 2 // batch


class Holder(nn.Module):
    """A language model's attention, with every kind of attribute that restates a shape."""

    def __init__(self, shared: SimpleNamespace) -> None:
        super().__init__()
        self.config = shared
        self.layer_idx, self.window_size = 4, 4
        self.head_dim, self.num_key_value_groups = 4, 2
        self.scaling = self.head_dim**-0.5
        self.sizes = (16, 8, 8)
        self.qkv = nn.Linear(12, 32)
        self.proj = nn.Linear(16, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        parts = self.qkv(x).split(self.sizes, -1)
        q, k, v = (t.view(b, n, -1, self.head_dim).transpose(1, 2) for t in parts)
        k, v = (
            t[:, :, None].expand(b, -1, self.num_key_value_groups, n, -1).reshape(q.shape)
            for t in (k, v)
        )
        y = F.scaled_dot_product_attention(q, k, v, scale=self.scaling).transpose(1, 2)
        return self.proj(y.reshape(b, n, self.config.heads * self.head_dim))


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(heads=4, width=12, depth=2, dropout=0.0)
        self.stem = nn.Linear(6, 12)
        self.blocks = nn.ModuleList([Holder(self.config) for _ in range(2)])
        self.head = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean(1))


def tower():
    torch.manual_seed(0)
    return Tower().eval(), (torch.randn(2, 5, 6),)


def query_groups(net, block):
    """The axes of a block's heads: those of keys and values, and those that share one."""
    kinds = [a.name for a in net.axes.values() if a.kind == "head" and f"blocks.{block}." in a.name]
    assert len(kinds) == 2
    return kinds


def test_attributes_are_repaired_and_listed():
    model, inputs = tower()
    net = trace(model, inputs)
    kv, group = query_groups(net, 0)
    other = query_groups(net, 1)
    small = net.remove({kv: [0], other[0]: [1], "stem.out": [1, 5, 7]})
    made = rebuild(small)
    assert type(made.model) is Tower
    block = made.model.blocks[0]
    assert block.sizes == (8, 4, 4)
    assert (block.layer_idx, block.window_size, block.head_dim) == (4, 4, 4)
    assert block.num_key_value_groups == 2
    assert block.scaling == 0.5
    assert vars(made.model.config) == {"heads": 2, "width": 9, "depth": 2, "dropout": 0.0}
    assert block.config is made.model.config
    listed = set(made.repaired)
    assert ("config", "heads", 4, 2) in listed
    assert ("config", "width", 12, 9) in listed
    assert ("blocks.1", "sizes", (16, 8, 8), (8, 4, 4)) in listed
    assert ("stem", "out_features", 12, 9) in listed
    assert not made.notes
    assert not made.varied
    assert vars(model.config)["heads"] == 4
    assert model.blocks[0].sizes == (16, 8, 8)
    assert group in net.axes


def test_modules_that_differ_get_a_configuration_of_their_own():
    model, inputs = tower()
    net = trace(model, inputs)
    made = rebuild(net.remove(query_groups(net, 0)[1], [0]))
    assert type(made.model) is Tower
    assert [block.config.heads for block in made.model.blocks] == [2, 4]
    assert made.model.blocks[0].num_key_value_groups == 1
    assert made.varied == {"heads": {"blocks.0": 2, "blocks.1": 4}}
    assert "configuration of their own" in " ".join(made.notes)
    shapes = made.model(torch.randn(3, 7, 6)).shape
    assert shapes == (3, 3)


def test_a_multihead_attention_keeps_its_class_where_its_heads_fit():
    torch.manual_seed(0)

    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Linear(6, 16), nn.Linear(16, 3)
            self.attend = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            return self.head((x + self.attend(x, x, x, need_weights=False)[0]).mean(1))

    model, inputs = Attends().eval(), (torch.randn(2, 5, 6),)
    net = trace(model, inputs)
    (heads,) = (a.name for a in net.axes.values() if a.kind == "head")
    fits = net.remove({heads: [1], "stem.out": [0, 3, 9, 15]}).to_model()
    assert type(fits) is Attends
    assert (fits.attend.embed_dim, fits.attend.num_heads, fits.attend.head_dim) == (12, 3, 4)
    assert fits.attend.kdim == fits.attend.vdim == 12
    assert type(fits.attend) is nn.MultiheadAttention
    wide = rebuild(net.remove(heads, [1]))
    assert type(wide.model) is Attends
    assert isinstance(wide.model.attend, AnyWidthAttention)
    assert wide.model.attend.embed_dim == 16
    assert (wide.model.attend.num_heads, wide.model.attend.head_dim) == (3, 4)


def test_flat_weights_and_ties_follow():
    torch.manual_seed(0)

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.out = nn.Linear(6, 12), nn.Linear(12, 6)
            self.rnn, self.head = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.rnn(self.out(self.stem(x).relu()))[0][:, -1])

    model, inputs = Recurrent().eval(), (torch.randn(2, 4, 6),)
    net = trace(model, inputs)
    back = net.to_model()
    assert all(a is not b for a, b in zip(back.parameters(), model.parameters(), strict=True))
    assert set(map(id, back.rnn._flat_weights)) == set(map(id, back.rnn.parameters()))
    small = net.remove("stem.out", range(6)).to_model()
    assert type(small) is Recurrent
    with torch.no_grad():
        small.rnn.weight_hh_l0.zero_()
    assert not torch.equal(small(*inputs), net.remove("stem.out", range(6)).to_model()(*inputs))


def test_what_is_not_a_weight_is_kept():
    model, inputs = build("resnet_projection")
    model[0].weight.requires_grad_(False)
    model[0].weight.tag = "mine"
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    net = trace(model, inputs)
    for pruned in (net.to_model(), halved(net).to_model(), graph_model(halved(net))):
        assert pruned.training
        assert not pruned.get_parameter("0.weight").requires_grad
        assert pruned.get_parameter("1.weight").requires_grad
        assert {p.dtype for p in pruned.parameters()} == {torch.float32}
    assert halved(net).to_model()[0].weight.tag == "mine"
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_the_network_is_left_as_it_was():
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 8, 3))
    model = nn.Sequential(layer, nn.ReLU(inplace=True), nn.Conv2d(8, 2, 3)).train()
    small = halved(trace(model, (torch.randn(1, 3, 8, 8),)))
    before = {name: tensor.value.clone() for name, tensor in small.tensors.items()}
    made = small.to_model()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor.value, before[name]) for name, tensor in small.tensors.items())


def test_an_exported_model_is_copied_moved_cast_and_exported_again():
    model, inputs = build("llama")
    pruned = halved(trace(model, inputs)).to_model()
    assert isinstance(pruned, ExportedModule)
    ids = inputs["input_ids"]
    expected = run(pruned, inputs)
    assert torch.equal(run(copy.deepcopy(pruned), inputs), expected)
    double = copy.deepcopy(pruned).double()
    torch.testing.assert_close(run(double, inputs), expected.double(), rtol=1e-4, atol=1e-4)
    assert run(copy.deepcopy(pruned).to(torch.bfloat16), inputs).dtype == torch.bfloat16
    meta = copy.deepcopy(pruned).to("meta")
    assert run(meta, {"input_ids": ids.to("meta")}).shape == expected.shape
    again = torch.export.export(pruned, (), dict(inputs), strict=False).module()
    torch.testing.assert_close(run(again, inputs), expected)
    for shape in ((1, 3), (5, 11)):
        assert run(pruned, {"input_ids": torch.randint(0, 30, shape)}).shape == (*shape, 30)
    assert pruned.lm_head.weight is pruned.model.embed_tokens.weight


def test_what_runs_nowhere_is_refused_now(monkeypatch):
    from graphs.build import rebuild as module

    model, inputs = build("resnet_option_a")
    small = halved(trace(model, inputs))
    failing = nn.Module()
    monkeypatch.setattr(module, "_any_batch", lambda *_: (failing, ""))
    monkeypatch.setattr(module, "_program_over", lambda *_: failing)
    with pytest.raises(module.RebuildError, match="the pruned Sequential does not run"):
        small.to_model()


@pytest.mark.parametrize("varied", [False, True])
@pytest.mark.parametrize("name", list(LANGUAGE_MODELS))
def test_generation_with_a_cache_equals_generation_without(name, varied):
    model = language_model(name)
    ids = torch.arange(14).reshape(2, 7) * 3 % 30
    net = trace(model, {"input_ids": ids})
    gone = {}
    for i, axis in enumerate(net.axes.values()):
        whole = axis.kind == "head feature" or ".v_proj.out" in axis.name
        if axis.frozen or whole or (varied and i % 3 == 0):
            continue
        gone[axis.name] = range(0, axis.size, 2 + varied * (i % 2)) if axis.size > 2 else [0]
    pruned = net.remove(gone).to_model()
    assert type(pruned) is type(model)
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    cached = pruned.generate(ids[:, :3], use_cache=True, **options)
    assert torch.equal(cached, pruned.generate(ids[:, :3], use_cache=False, **options))
    assert cached.shape == (2, 15)


class Asks(nn.Module):
    """Adds a mask of zeros where it is exported, and multiplies by `factor` elsewhere."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.a, self.b, self.factor = nn.Linear(6, 8), nn.Linear(8, 5), factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x).relu()
        if torch.compiler.is_exporting():
            return self.b(y + torch.zeros(y.shape[0], 1))
        return self.b(y * self.factor)


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_a_forward_that_asks_whether_it_is_exported_computes_the_same_elsewhere(
    factor, monkeypatch
):
    model, x = Asks(factor).eval(), torch.randn(4, 6)
    small = trace(model, (x[:1],)).remove("a.out", [1, 4])
    if factor == 1:
        monkeypatch.setattr("graphs.build.rebuild._compared", None)
        made = rebuild(small)
        assert type(made.model) is Asks
        assert not made.notes
    else:
        assert isinstance(rebuild(small).model, ExportedModule)


class Keeps(nn.Module):
    """In evaluation it looks biases up once, as LeViT does; 6 is written into its forward."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)
        self.biases, self.kept = nn.Parameter(torch.randn(6)), {}

    def train(self, mode=True):
        super().train(mode)
        if mode:
            self.kept = {}
        return self

    def forward(self, x):
        if self.training:
            bias = self.biases.exp()
        else:
            bias = self.kept.setdefault("bias", self.biases.exp())
        return self.b((self.a(x) + bias).view(x.shape[0], 6))


@pytest.mark.parametrize("every_size", [False, True])
def test_what_a_forward_keeps_is_no_constant_of_its_graph(every_size):
    model, inputs = Keeps().eval(), (torch.randn(2, 3),)
    model(*inputs)
    order = torch.tensor([3, 1, 4, 0, 5, 2])
    net = trace(model, inputs, every_size=every_size)
    (axis,) = net.tensors["a.weight"].axes_made
    cut = net.permute(axis, order).remove(axis, [1]).to_model()
    assert isinstance(cut, ExportedModule)
    x, rest = torch.randn(5, 3), order[[0, 2, 3, 4, 5]]
    units = (model.a(x) + model.biases.exp())[:, rest]
    wanted = units @ model.b.weight[:, rest].T + model.b.bias
    assert torch.allclose(cut(x), wanted, atol=1e-5)
