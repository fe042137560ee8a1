"""Laws of expected losses of branches: ½ (Σ J b)ᵀ C (Σ J b) of what goes, and no batch matters."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn
from torch.func import functional_call

from graphs import trace
from pruners import Target, units
from pruners.curves import branch_losses
from pruners.curves import branches as room
from pruners.statistics import Imitation, Likelihood, NoCurvatureError
from pruners.statistics import curvature as passes
from tests.pruners.networks import randomized
from tests.pruners.statistics.test_curvature import every_direction

WIDE = torch.float64


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class Stream(nn.Module):
    """Places of a stream, two branches along it, and scores of their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.blocks = nn.Linear(4, 6), nn.Sequential(Block(5), Block(7))
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.first(x)).mean(1))


def stream(scale: float = 1.0):
    torch.manual_seed(0)
    model = randomized(Stream().double()).eval()
    for block in model.blocks:
        block.body[2].weight.data *= scale
        block.body[2].bias.data *= scale
    x = torch.randn(5, 4, 4, dtype=WIDE, generator=torch.Generator().manual_seed(1))
    return model, trace(model, (x[:2],)), x


def faded(model, x, share):
    """Scores with what each branch adds times (1 − share), share (branches,)."""
    values = dict(model.named_parameters())
    for i, block in enumerate(model.blocks):
        for name in ("weight", "bias"):
            values[f"blocks.{i}.body.2.{name}"] = getattr(block.body[2], name) * (1 - share[i])
    return functional_call(model, values, (x,))


def test_the_expectation_is_the_second_order_of_fading_branches_out(monkeypatch):
    model, net, x = stream()
    slope = torch.autograd.functional.jacobian(
        lambda share: faded(model, x, share), torch.zeros(2, dtype=WIDE)
    )  # (examples, classes, branches)
    p = model(x).detach().softmax(-1)
    covariance = p.diag_embed() - p[:, :, None] * p[:, None]
    expected = torch.einsum("nai,nab,nbj->ij", slope, covariance, slope) / len(x)
    every_direction.drawn = 0
    monkeypatch.setattr(passes, "direction", every_direction)
    found = branch_losses(net, model, [(x,)], Likelihood(1.0, x.shape[0] * 3))
    assert found.names == ("blocks.0.body", "blocks.1.body")
    torch.testing.assert_close(found.products, expected)
    assert found.of([found.names[1]]) == pytest.approx(float(expected[1, 1]) / 2)
    assert found.of(found.names) == pytest.approx(float(expected.sum()) / 2)
    assert found.of([]) == 0


def test_batches_and_their_order_change_nothing():
    model, net, x = stream()
    asked = Likelihood(1.0, 2)
    whole = branch_losses(net, model, [(x,)], asked)
    for batches in ([(x[:2],), (x[2:],)], [(x.flip(0),)], [(x[:4],), (x[4:],)]):
        torch.testing.assert_close(
            branch_losses(net, model, batches, asked).products, whole.products
        )


def test_it_foretells_what_small_branches_cost():
    model, net, x = stream(0.05)
    found = branch_losses(net, model, [(x,)], Likelihood(1.0, 400))
    lost = units.imitated(net, Imitation(model, [(x,)]).value)
    for gone in (found.names[:1], found.names[1:], found.names):
        assert found.of(gone) == pytest.approx(lost(gone), rel=0.15)


def test_the_model_is_left_as_it_was():
    model, net, x = stream()
    model.train()
    model.first.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    branch_losses(net, model, [(x,)])
    assert model.training
    assert not model.first.weight.requires_grad
    assert model.head.weight.requires_grad
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_no_gradient_reaches_is_said():
    class Labels(Stream):
        def forward(self, x):
            return super().forward(x).argmax(-1)

    model = randomized(Labels().double())
    x = torch.randn(5, 4, 4, dtype=WIDE)
    with pytest.raises(NoCurvatureError, match="floating-point tensor"):
        branch_losses(trace(model, (x,)), model, [(x,)])


def test_experts_that_tokens_are_routed_to_are_branches_like_others():
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=24, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=4,
    )  # fmt: skip
    model = transformers.MixtralForCausalLM(config).eval()
    inputs = {"input_ids": torch.randint(0, 24, (3, 6))}
    found = branch_losses(trace(model, inputs), model, [inputs])
    assert len(found.names) == 4
    assert all(found.of([name]) > 0 for name in found.names)


def test_blocks_are_chosen_by_it():
    model, net, x = stream()
    with torch.no_grad():
        model.blocks[1].body[2].weight.mul_(1e-3)
        model.blocks[1].body[2].bias.mul_(1e-3)
    net = trace(model, (x[:2],))
    found = branch_losses(net, model, [(x,)])
    drops = units.choose_blocks(net, Target.parse({"macs": "75%"}), found.of)
    assert drops.names == ("blocks.1.body",)
    assert drops.damage[0] == pytest.approx(found.of(drops.names))
    assert room.BranchGradients([]).products().shape == (0, 0)


def test_a_branch_inside_another_goes_with_it():
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.inner = nn.Linear(6, 6), Block(5)
            self.out, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            return self.head(x + self.out(self.inner(x.tanh())))

    torch.manual_seed(0)
    model, x = randomized(Nested().double()), torch.randn(5, 6, dtype=WIDE)
    net = trace(model, (x,))
    found = branch_losses(net, model, [(x,)])
    (outer,) = (name for name, holding in found.within.items() if not holding)
    (inner,) = set(found.names) - {outer}
    assert found.of([inner, outer]) == found.of([outer])
    assert found.of([inner]) != found.of([outer])
