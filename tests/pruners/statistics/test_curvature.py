"""Laws of curvature: G is Σ_places Jᵀ (diag p − ppᵀ) J, and nothing else is left behind."""

from __future__ import annotations

from math import inf

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from pruners.statistics import Likelihood, collect
from pruners.statistics import curvature as room
from pruners.statistics.calls import LinearCalls
from pruners.statistics.calls.rows import output_blocks
from pruners.statistics.curvature import LARGEST
from tests.pruners.networks import randomized
from tests.pruners.statistics.curved import NETWORKS, ONE, WIDE, found, network, seq


def _of_groups(gradient, call):
    """(groups, places, out of a group): zeros for a slice of a stack where it was not chosen."""
    if call.slices is None:
        blocks = output_blocks(gradient, call.channel_dim, call.groups)
        # Groups of a transposed convolution are places of the same rows.
        return blocks.flatten(0, 1)[None] if call.transposed else blocks
    rows = gradient.movedim(call.channel_dim, -1).reshape(len(call.slices), -1)
    return nn.functional.one_hot(call.slices, call.groups).T[:, :, None] * rows


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
                [_of_groups(each[i], call) for each in jacobian]
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


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_narrow_models_have_wide_curvature(narrow):
    """Draws are those of the wide model: examples are whole numbers here."""
    model, x = network("tokens")
    expected = found(model.float(), [x])
    for name, value in found(model.to(narrow), [x]).items():
        assert value.dtype == torch.float32
        assert (value - expected[name]).norm() < 0.02 * expected[name].norm()
