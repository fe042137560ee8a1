"""The reference of LLM Surgeon: its formulas against brute force, its factors against autograd."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.expected_loss import kronecker
from benchmarks.expected_loss.kronecker import Factors

PATTERNS = (kronecker.UNSTRUCTURED, kronecker.TWO_OF_FOUR, kronecker.ROWS_AND_COLUMNS)


class Small(nn.Module):
    """Token by token: embedding, two layers, scores."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(7, 8)
        self.first, self.second = nn.Linear(8, 12, bias=False), nn.Linear(12, 8, bias=False)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(self, input_ids: Tensor) -> "Small":
        hidden = self.second(F.silu(self.first(self.embedding(input_ids))))
        self.logits = hidden @ self.embedding.weight.detach().T
        return self

    @property
    def layers(self) -> dict[str, nn.Linear]:
        return {"first": self.first, "second": self.second}


def _batches() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(7, (4, 6), generator=generator)} for _ in range(2)]


def _layer(rows: int = 5, columns: int = 6) -> tuple[Tensor, Factors]:
    torch.manual_seed(1)
    a, g = torch.randn(20, columns).double(), torch.randn(20, rows).double()
    return torch.randn(rows, columns).double(), Factors(a.T @ a, g.T @ g)


def _best(weight: Tensor, factors: Factors, mask: Tensor) -> Tensor:
    """The nearest weight within a mask, from the whole matrix G ⊗ A."""
    whole, stays = torch.kron(factors.outputs, factors.inputs), mask.flatten()
    found = weight.flatten() * stays
    pull = whole[stays][:, ~stays] @ weight.flatten()[~stays]
    found[stays] += torch.linalg.solve(whole[stays][:, stays], pull)
    return found.view_as(weight)


def _loss(change: Tensor, factors: Factors) -> Tensor:
    return 0.5 * (factors.outputs @ change @ factors.inputs * change).sum()


def test_factors_are_second_moments_of_inputs_and_of_gradients_of_the_labels_loss() -> None:
    model, batches = Small(), _batches()
    found = kronecker.curvature(model, model.layers, batches)["first"]
    inputs, outputs, tokens = torch.zeros(8, 8), torch.zeros(12, 12), 0
    for row in torch.cat([batch["input_ids"] for batch in batches]):
        x = model.embedding(row).detach()
        out = model.first(x).detach().requires_grad_()
        logits = model.second(F.silu(out)) @ model.embedding.weight.T
        loss = F.cross_entropy(logits[:-1], row[1:], reduction="sum")
        (g,) = torch.autograd.grad(loss, out)
        inputs, outputs, tokens = inputs + x.T @ x, outputs + g.T @ g, tokens + len(row)
    torch.testing.assert_close(found.inputs, (inputs / tokens).double())
    torch.testing.assert_close(found.outputs, (outputs / tokens).double(), rtol=1e-4, atol=1e-9)


def test_costs_are_losses_after_the_best_update() -> None:
    weight, factors = _layer()
    mask = torch.ones_like(weight, dtype=torch.bool)
    mask[2, 3] = False
    change = _best(weight, factors, mask) - weight
    scale = (
        kronecker.inverse_diagonal(factors.outputs)[2]
        * kronecker.inverse_diagonal(factors.inputs)[3]
    )
    torch.testing.assert_close(_loss(change, factors), 0.5 * weight[2, 3] ** 2 / scale)


def test_what_stays_is_the_exact_optimum_over_all_that_goes() -> None:
    weight, factors = _layer()
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(2)) > 0.5
    found = kronecker.without_weights(weight, factors, mask)
    torch.testing.assert_close(found, _best(weight, factors, mask), rtol=1e-3, atol=1e-3)


def test_rows_and_columns_go_to_the_exact_optimum_and_stay_away() -> None:
    weight, factors = _layer()
    before, mask = (torch.ones_like(weight, dtype=torch.bool) for _ in range(2))
    before[1], before[:, 4] = False, False
    mask[[1, 3]], mask[:, [0, 4]] = False, False
    weight = weight * before
    found = kronecker.without_rows_and_columns(weight, factors, before, mask)
    rows, columns = before.any(1), before.any(0)
    small = factors.among(rows, columns).damped(kronecker.DAMPING)
    best = _best(weight[rows][:, columns], small, mask[rows][:, columns])
    torch.testing.assert_close(found[rows][:, columns], best)
    assert not found[~mask].any()


def test_the_cheapest_rows_and_columns_of_all_layers_go_whatever_their_size() -> None:
    weight, factors = _layer()
    weights, both = {"a": weight, "b": 1e-3 * weight}, {"a": factors, "b": factors}
    masks = {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()}
    chosen = kronecker.choose_rows_and_columns(weights, both, masks, 0.4)
    assert chosen["a"].all()
    gone = int((~chosen["b"]).sum())
    assert 24 <= gone < 24 + 6
    assert torch.equal(chosen["b"], torch.outer(chosen["b"].any(1), chosen["b"].any(0)))
    everything = kronecker.choose_rows_and_columns(weights, both, chosen, 1.0)
    assert not any(mask.any() for mask in everything.values())


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shots", [1, 3])
def test_shots_meet_the_share_and_what_has_gone_stays_0(pattern: str, shots: int) -> None:
    model = Small()
    masks = kronecker.pruned(model, model.layers, _batches(), pattern, 0.5, shots)
    for name, layer in model.layers.items():
        assert not layer.weight[~masks[name]].any()
    gone = sum(int((~mask).sum()) for mask in masks.values())
    assert gone == 96 or (pattern == kronecker.ROWS_AND_COLUMNS and 96 <= gone < 96 + 12)
    if pattern == kronecker.TWO_OF_FOUR:
        for mask in masks.values():
            assert (mask.unflatten(1, (-1, 4)).sum(2) == 2).all()


def test_a_curvature_that_cannot_be_solved_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kronecker, "MOST_STEPS", 1)
    weight, factors = _layer()
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(2)) > 0.5
    with pytest.raises(RuntimeError, match="raise the damping"):
        kronecker.without_weights(weight, factors, mask)
