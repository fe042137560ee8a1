"""Laws of curvature: G is Σ_places Jᵀ (diag p − ppᵀ) J, however batches and graphs are laid out."""

from __future__ import annotations

import warnings
from collections import UserDict
from math import inf

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from pruners.statistics import Likelihood, Statistics, collect
from pruners.statistics import curvature as room
from pruners.statistics.calls import LinearCalls
from pruners.statistics.curvature import BOTH_WAYS, CUT_OFF, LARGEST, SWITCHED_OFF, UNREAD
from pruners.statistics.rows import output_blocks
from tests.pruners.conftest import make
from tests.pruners.networks import randomized

WIDE = torch.float64
ONE = Likelihood(temperature=1.0, draws=1)


def numbers(*shape, seed=0):
    return torch.randn(shape, dtype=WIDE, generator=torch.Generator().manual_seed(seed))


def found(model, batches, names=None, likelihood=ONE, dtype=torch.float32):
    """Weight name → G, of all weights if none are named."""
    if names is None:
        names = [name for name, value in model.named_parameters() if value.ndim > 1]
    each = collect(model, batches, names, ["curvature"], likelihood=likelihood, dtype=dtype)
    return {name: one["curvature"] for name, one in each.tensors().items()}


class Tokens(nn.Module):
    """A head tied to the embedding, a weight used twice, and weights that are (in, out)."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.twice = nn.Linear(6, 6)
        self.turned = Conv1D(5, 6)
        self.back = nn.Parameter(torch.zeros(5, 6))
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids)
        x = x + self.twice(self.twice(x).tanh())
        return self.head(x + self.turned(x).sigmoid() @ self.back)


def seq(*layers):
    return nn.Sequential(*layers)


def packed():
    layer = nn.TransformerEncoderLayer(4, 2, 5, batch_first=True)
    return seq(nn.TransformerEncoder(layer, 1), nn.Linear(4, 3))


NETWORKS = {
    "in place": (lambda: seq(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)), (6, 4)),
    "convolutions": (
        lambda: seq(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 6, 3, groups=2, stride=2),
            nn.Tanh(),
            nn.Conv2d(6, 6, 2, groups=6),
            nn.Flatten(),
            nn.Linear(6, 3),
        ),
        (3, 2, 5, 5),
    ),
    "one dimension": (
        lambda: seq(
            nn.Conv1d(2, 3, 3, stride=2, dilation=2),
            nn.GELU(),
            nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(12, 3),
        ),
        (3, 2, 8),
    ),
    "three dimensions": (
        lambda: seq(
            nn.Conv3d(1, 2, 2),
            nn.ReLU(),
            nn.ConvTranspose3d(2, 2, 2),
            nn.Flatten(),
            nn.Linear(16, 2),
        ),
        (2, 1, 2, 2, 2),
    ),
    "transposed": (
        lambda: seq(
            nn.ConvTranspose2d(2, 3, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3)
        ),
        (2, 2, 2, 2),
    ),
    "tokens": (Tokens, None),
    "packed attention": (packed, (2, 3, 4)),
    "attention": (lambda: make("attention").model, None),
    "residual": (lambda: make("cnn").model, (2, 3, 6, 6)),
}


def network(kind):
    build, shape = NETWORKS[kind]
    torch.manual_seed(0)
    model = randomized(build().double())
    return model, torch.randint(0, 7, (2, 4)) if shape is None else numbers(*shape)


def exact(model, x, temperature=1.0):
    """Σ_places Jᵀ C J by Jacobians of single predictions, J at the output of every call."""
    outputs = []
    model.eval()

    def after(call, output):
        if not output.requires_grad:
            output.requires_grad_()
        outputs.append((call, output))
        return output.clone()

    with LinearCalls(after=after):
        scores = model(x)
    names = {id(value): name for name, value in model.named_parameters()}
    rows = scores.flatten(0, -2)
    p = (rows.detach() / temperature).softmax(-1)
    result: dict[str, torch.Tensor] = {}
    for n, row in enumerate(rows):
        covariance = p[n].diag() - torch.outer(p[n], p[n])
        if temperature == inf:
            covariance = (torch.eye(len(row)) - 1 / len(row)).to(row) / len(row)
        jacobian = [
            torch.autograd.grad(score, [o for _, o in outputs], retain_graph=True) for score in row
        ]
        for i, (call, _) in enumerate(outputs):
            blocks = torch.stack(
                [output_blocks(each[i], call.channel_dim, call.groups) for each in jacobian]
            )  # (classes, groups, places, out of a group)
            parts = torch.einsum("agpo,ab,bgpq->goq", blocks, covariance, blocks)
            name, value = names[id(call.weight)], torch.block_diag(*parts)
            result[name] = result.get(name, 0) + value / len(rows)
    return {
        # Groups of one output have nothing but a diagonal.
        name: value.diagonal() if torch.equal(value, value.diagonal().diag()) else value
        for name, value in result.items()
    }


def every_direction(scores, counted, temperature, generators):
    """In as many draws as there are scores, √n times the columns of a root of their covariance."""
    drawn = every_direction.drawn
    every_direction.drawn += 1
    rows = scores.detach().flatten(0, -2)
    n, c = divmod(drawn % rows.numel(), rows.shape[1])
    p = (rows[n] / temperature).softmax(-1)
    noise = nn.functional.one_hot(torch.tensor(c), rows.shape[1]).to(p) * rows.numel() ** 0.5
    pull = torch.zeros_like(rows)
    pull[n] = p.sqrt() * noise - p * (p.sqrt() * noise).sum()
    return pull.reshape(scores.shape)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_expectation_is_the_fisher_information_at_the_outputs(kind, temperature, monkeypatch):
    """Noise n with E[n nᵀ] = I of finitely many values: the mean over all of them is exact."""
    model, x = network(kind)
    expected = exact(model, x, temperature)
    every_direction.drawn = 0
    monkeypatch.setattr(room, "direction", every_direction)
    draws = model(x).numel()
    got = found(model, [x], likelihood=Likelihood(temperature, draws), dtype=WIDE)
    assert set(got) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("kind", ["convolutions", "tokens"])
@pytest.mark.parametrize("temperature", [1.0, inf])
def test_draws_come_near_their_expectation(kind, temperature):
    model, x = network(kind)
    expected = exact(model, x, temperature)
    errors = []
    for draws in (16, 1024):
        got = found(model, [x], likelihood=Likelihood(temperature, draws), dtype=WIDE)
        errors.append(
            sum(float((got[n] - v).norm() / v.norm()) for n, v in expected.items()) / len(got)
        )
    assert errors[1] < 0.08
    assert errors[1] < errors[0] / 3


def test_a_draw_has_the_covariance_of_labels_and_sums_to_nothing():
    scores, all_ = numbers(1, 5) * 2, torch.ones(1, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    draws = torch.cat([room.direction(scores, all_, 1.0, [generator]) for _ in range(20000)])
    p = scores[0].softmax(-1)
    torch.testing.assert_close(
        draws.T @ draws / len(draws), p.diag() - torch.outer(p, p), rtol=0, atol=0.01
    )
    assert draws.sum(1).abs().max() < 1e-12


def test_a_single_score_counts_by_its_square():
    model = seq(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x = numbers(5, 3)
    got = found(model, [x], likelihood=Likelihood(1.0, 4000), dtype=WIDE)
    torch.testing.assert_close(got["2.weight"], torch.ones(1, dtype=WIDE), rtol=0.1, atol=0)


def test_a_single_example_without_a_batch_is_one_prediction():
    model, x = network("in place")
    got, expected = found(model, [x[0]]), found(model, [x[:1]])
    assert got["0.weight"].shape == expected["0.weight"].shape
    assert got["2.weight"].count_nonzero() == expected["2.weight"].count_nonzero()


@pytest.mark.parametrize("kind", ["in place", "convolutions", "tokens", "packed attention"])
def test_splits_order_and_places_in_a_batch_change_nothing(kind):
    model, x = network(kind)
    ours = found(model, [x], dtype=WIDE)
    for batches in ([x[:1], x[1:]], [x.flip(0)], [(part,) for part in x.split(1)]):
        for name, value in found(model, batches, dtype=WIDE).items():
            torch.testing.assert_close(value, ours[name])
    first, second = (
        collect(model, [part], list(ours), ["curvature"], likelihood=ONE)
        for part in x.tensor_split(2)
    )
    for name, value in first.merge_(second).tensors().items():
        torch.testing.assert_close(value["curvature"], ours[name])


def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        num_hidden_layers=2,
        hidden_size=8,
        intermediate_size=12,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=11,
    )
    return randomized(LlamaForCausalLM(config).double())


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mapping", [dict, UserDict])
def test_padding_counts_for_nothing(side, mapping):
    model, ids = llama(), torch.randint(1, 11, (3, 6))
    lengths = (6, 4, 1)
    alone = [mapping(input_ids=row[None, :n]) for row, n in zip(ids, lengths, strict=True)]
    places = torch.arange(6) >= torch.tensor([[6 - n] for n in lengths])
    mask = places if side == "left" else places.flip(1)
    padded = torch.zeros(3, 6, dtype=torch.int64)
    for row, here, n in zip(range(3), mask, lengths, strict=True):
        padded[row, here] = ids[row, :n]
    batch = mapping(input_ids=padded, attention_mask=mask.long())
    # The mask is a part of what draws are seeded by.
    for one, n in zip(alone, lengths, strict=True):
        one["attention_mask"] = torch.ones(1, n, dtype=torch.int64)
    ours, expected = found(model, [batch], dtype=WIDE), found(model, alone, dtype=WIDE)
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value)


def test_the_scale_of_a_loss_and_its_reduction_change_no_budget():
    """All of G is multiplied alike."""
    model, x = network("convolutions")
    y = torch.tensor([0, 2, 1])

    def loss(reduction, factor=1.0):
        def of(model, batch):
            return factor * functional.cross_entropy(model(batch[0]), batch[1], reduction=reduction)

        return Likelihood(loss_fn=of)

    summed = found(model, [(x, y)], likelihood=loss("sum"), dtype=WIDE)
    for other, scale in ((loss("mean"), 9.0), (loss("sum", 5.0), 1 / 25)):
        for name, value in found(model, [(x, y)], likelihood=other, dtype=WIDE).items():
            torch.testing.assert_close(value * scale, summed[name])


def test_a_loss_has_the_gradients_of_automatic_differentiation():
    model, x = network("one dimension")
    outputs = []
    with LinearCalls(after=lambda call, output: outputs.append((call, output))):
        value = model(x).square().sum()
    gradients = torch.autograd.grad(value, [output for _, output in outputs])
    ours = found(
        model, [x], likelihood=Likelihood(loss_fn=lambda m, b: m(b).square().sum()), dtype=WIDE
    )
    for (call, _), gradient, got in zip(outputs, gradients, ours.values(), strict=True):
        rows = output_blocks(gradient, call.channel_dim, 1)[0]
        torch.testing.assert_close(got, rows.T @ rows)


def test_constants_added_to_scores_change_nothing_and_factors_are_temperatures():
    model, x = network("in place")
    ours = found(model, [x], dtype=WIDE)
    with torch.no_grad():
        model[2].bias += 3.0
    for name, value in found(model, [x], dtype=WIDE).items():
        torch.testing.assert_close(value, ours[name])
    with torch.no_grad():
        model[2].weight *= 2
        model[2].bias *= 2
    # The draw of the scaled scores at twice the temperature is that of the plain ones.
    scaled = found(model, [x], likelihood=Likelihood(2.0, 1), dtype=WIDE)
    torch.testing.assert_close(scaled["2.weight"], ours["2.weight"])
    torch.testing.assert_close(scaled["0.weight"], 4 * ours["0.weight"])


@pytest.mark.parametrize("trainable", [True, False])
def test_the_model_is_left_as_it_was_and_no_weight_gradient_is_computed(trainable):
    model, x = network("convolutions")
    model.train().requires_grad_(trainable)
    model[3].weight.requires_grad_(not trainable)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = []
    handles = [
        parameter.register_hook(lambda gradient: made.append(gradient))
        for parameter in model.parameters()
        if parameter.requires_grad
    ]
    saved = []
    parameters = {value.data_ptr() for value in model.parameters()}

    def pack(value):
        saved.append(value)
        return value

    inputs = []

    def remember(module, given):
        inputs.append(given[0].data_ptr())

    for module in (model[0], model[3], model[5], model[7]):
        handles.append(module.register_forward_pre_hook(remember))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        reached = found(model, [x], dtype=WIDE)
    for handle in handles:
        handle.remove()
    assert set(reached) == {"0.weight", "3.weight", "5.weight", "7.weight"}
    assert not made
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert all("forward" not in vars(module) for module in model.modules())
    # The input of the last layer would be kept for the gradient of its weight alone.
    held = {value.data_ptr() for value in saved}
    assert parameters & held
    assert inputs[-1] not in held
    assert all(module._forward_hooks == {} for module in model.modules())


def test_inputs_that_ask_for_gradients_are_left_alone():
    model, x = network("in place")
    ours = found(model, [x], dtype=WIDE)
    wanting = x.clone().requires_grad_()
    for name, value in found(model, [wanting], dtype=WIDE).items():
        torch.testing.assert_close(value, ours[name])
    assert wanting.grad is None


class Blocked(nn.Module):
    """Branches that no gradient comes back from, beside one that it does."""

    def __init__(self):
        super().__init__()
        self.before, self.off, self.cut, self.chosen, self.out, self.idle = (
            nn.Linear(4, 4) for _ in range(6)
        )
        self.table = nn.Embedding(4, 4)
        self.mirror = nn.Parameter(torch.zeros(4, 4))

    def forward(self, x):
        with torch.no_grad():
            x = x + self.off(x)
        x = x + self.cut(x).detach() + self.table(self.chosen(x).argmax(-1))
        x = x + (x @ self.mirror).tanh() @ self.mirror.T
        return self.out(self.before(x).tanh())


REASONS = {
    "off.weight": SWITCHED_OFF,
    "cut.weight": CUT_OFF,
    "chosen.weight": CUT_OFF,
    "idle.weight": UNREAD,
    "table.weight": UNREAD,
    "mirror": BOTH_WAYS,
}


def test_weights_that_no_gradient_reaches_are_named(tmp_path):
    torch.manual_seed(0)
    model = randomized(Blocked().double())
    names = [name for name, value in model.named_parameters() if value.ndim > 1]
    seen = collect(model, [numbers(5, 4)], names, ["curvature", "hessian"], likelihood=ONE)
    assert seen.unreached == REASONS
    told = seen.tensors()
    assert {name for name, one in told.items() if "curvature" in one} == {
        "before.weight",
        "out.weight",
    }
    # What goes into them is known all the same.
    assert set(told) == {*names} - {"idle.weight", "table.weight", "mirror"}
    seen.save(tmp_path / "seen")
    loaded = Statistics.load(tmp_path / "seen")
    assert loaded.unreached == REASONS
    assert loaded.moments.keys() == seen.moments.keys()
    assert torch.equal(loaded.tensors()["out.weight"]["curvature"], told["out.weight"]["curvature"])


class Routed(nn.Module):
    """Two experts; the sign of the first input chooses."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        y = torch.zeros_like(x)
        for expert, here in zip(self.experts, (x[:, 0] < 0, x[:, 0] >= 0), strict=True):
            if here.any():
                y[here] = expert(x[here])
        return self.head(y)


def test_experts_that_some_batches_miss_count_with_all_predictions():
    torch.manual_seed(0)
    model, x = randomized(Routed().double()), numbers(8, 4)
    x[:, 0] = torch.tensor([1.0, 1, 1, 1, 1, 1, -1, -1])
    ours, split = found(model, [x], dtype=WIDE), found(model, x.split(2), dtype=WIDE)
    assert set(ours) == {"experts.0.weight", "experts.1.weight", "head.weight"}
    first, second = (
        collect(model, [part], list(ours), ["curvature"], likelihood=ONE)
        for part in x.split([6, 2])
    )
    assert first.unreached == {"experts.0.weight": UNREAD}
    merged = first.merge_(second)
    assert merged.unreached == {}
    for name, value in ours.items():
        torch.testing.assert_close(split[name], value)
        torch.testing.assert_close(merged.tensors()[name]["curvature"], value)


def process(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.manual_seed(0)
    model, x = randomized(Routed().double()), numbers(8, 4)
    x[:, 0] = torch.tensor([1.0, 1, 1, 1, 1, 1, -1, -1])
    mine = x.split([6, 2])[rank]
    names = [name for name, value in model.named_parameters() if value.ndim > 1]
    collect(
        model, [mine], names, ["curvature", "hessian", "variances"], likelihood=ONE
    ).all_reduce_().save(f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_may_reach_different_experts(tmp_path):
    mp.spawn(process, (str(tmp_path),), nprocs=2)
    torch.manual_seed(0)
    model, x = randomized(Routed().double()), numbers(8, 4)
    x[:, 0] = torch.tensor([1.0, 1, 1, 1, 1, 1, -1, -1])
    names = [name for name, value in model.named_parameters() if value.ndim > 1]
    whole = collect(model, [x], names, ["curvature", "hessian", "variances"], likelihood=ONE)
    for rank in range(2):
        loaded = Statistics.load(tmp_path / str(rank))
        assert loaded.unreached == {}
        for name, values in whole.tensors().items():
            for key, value in values.items():
                torch.testing.assert_close(loaded.tensors()[name][key], value)


def test_more_outputs_than_the_largest_have_a_diagonal():
    torch.manual_seed(0)
    model = seq(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, LARGEST + 1))
    x = torch.randn(6, 3)
    got = found(model, [x])
    assert got["2.weight"].shape == (LARGEST + 1,)
    generators = room.generators_of(x, torch.ones(6, dtype=torch.bool), "0 0")
    pull = room.direction(model(x), torch.ones(6, dtype=torch.bool), 1.0, generators)
    torch.testing.assert_close(got["2.weight"], pull.square().sum(0) / 6)
    rows = (pull @ model[2].weight) * (1 - model[:2](x).square())
    torch.testing.assert_close(got["0.weight"], (rows.T @ rows / 6).detach())


def test_few_sure_predictions_are_told_of_once():
    model = seq(nn.Linear(4, 3)).double()
    x = numbers(200, 4) * 1e4
    x[0] = 0
    with pytest.warns(UserWarning, match="few predictions carry the curvature") as caught:
        found(model, x.split(50), likelihood=Likelihood(temperature=1.0))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found(model, [x], likelihood=Likelihood())
        found(model, [x], likelihood=Likelihood(temperature=inf))


@pytest.mark.parametrize(
    ("model", "likelihood", "message"),
    [
        (lambda: nn.Linear(4, 3), Likelihood(loss_fn=lambda m, b: m(b)), r"scalar loss .*\(5, 3\)"),
        (lambda: nn.Linear(4, 3), Likelihood(loss_fn=lambda m, b: 1.0), r"scalar loss .*float"),
        (
            lambda: nn.Linear(4, 3),
            Likelihood(loss_fn=lambda m, b: m(b).detach().sum()),
            "the loss does not depend smoothly on any",
        ),
        (lambda: Argmax(whole=True), ONE, r"floating-point tensor \(got Tensor\)"),
        (lambda: Argmax(whole=False), ONE, "the output does not depend smoothly on any"),
        (lambda: nn.Sequential(nn.Flatten()), ONE, "the output does not depend smoothly on any"),
    ],
)
def test_what_has_no_gradient_is_refused(model, likelihood, message):
    model = model()
    names = [name for name, _ in model.named_parameters()][:1]
    with pytest.raises(ValueError, match=message):
        collect(model, [torch.randn(5, 4)], names, ["curvature"], likelihood=likelihood)


class Argmax(nn.Module):
    def __init__(self, whole):
        super().__init__()
        self.layer, self.whole = nn.Linear(4, 3), whole

    def forward(self, x):
        best = self.layer(x).argmax(-1, keepdim=True)
        return best if self.whole else best.float()


def test_gpt2_has_the_curvature_of_its_projections():
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=1, n_embd=8, n_head=2, vocab_size=11, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    model = randomized(GPT2LMHeadModel(config).double())
    ids = {"input_ids": torch.randint(0, 11, (2, 6))}
    got = found(model, [ids])
    assert got["transformer.h.0.attn.c_attn.weight"].shape == (24, 24)
    assert got["transformer.h.0.mlp.c_proj.weight"].shape == (8, 8)
    # The head is the embedding, which is looked up as well.
    assert got["transformer.wte.weight"].shape == (11, 11)
    assert "transformer.wpe.weight" not in got
