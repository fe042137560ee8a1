"""Low rank through the pipeline: target → plan → pruned → saved → loaded → the same outputs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import metaprune
from metaprune.patterns.install import installed
from pruners import Plan, PlanError, UnreachableTargetError
from pruners.budgets import Budget
from pruners.factors import Parts, SparseLowRank
from pruners.solvers import Factors
from tests.metaprune.networks import SOURCE, cnn, images

BATCHES = [images(16, seed) for seed in range(2)]


def outputs(model: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(*inputs)


def prune(**options):
    return metaprune.prune(cnn(), images(), calibration=BATCHES, **options)


@pytest.mark.parametrize("target", [{"macs": "60%"}, {"speedup": 1.5, "params": "80%"}], ids=str)
@pytest.mark.parametrize("budget", ["uniform", "global", None])
def test_targets_are_met_by_what_was_built(target, budget):
    result = prune(pattern="low-rank", target=target, budget=budget)
    achieved, dense = result.report["achieved"], result.report["dense"]
    assert result.plan.budget == (budget or "expected-loss")
    assert result.plan.solver == "low-rank"
    assert achieved["params"] == sum(p.numel() for p in result.model.parameters())
    if "macs" in target:
        assert 0.45 * dense["macs"] < achieved["macs"] <= 0.6 * dense["macs"]
    else:
        assert achieved["speedup"] >= 1.5
        assert achieved["params"] <= 0.8 * dense["params"]
    assert any("a convolution in groups" in note for note in result.report["notes"])
    stored = Budget.of(result.plan).stored(metaprune.trace(cnn(), images()))
    assert {entry["name"]: entry["kept"] for entry in result.report["layers"]} == stored


@pytest.mark.parametrize(
    ("pattern", "target", "budget"),
    [
        ("low-rank", {"macs": "60%"}, None),
        ("sparse+low-rank", {"sparsity": 0.5}, None),
        ("sparse+low-rank", {"sparsity": 0.5}, "erk"),
        ("row+low-rank", {"sparsity": 0.4}, "uniform"),
        ("1:2+low-rank", {"sparsity": 0.3}, None),
        ("1:4+low-rank", None, None),
    ],
)
def test_results_open_again_and_plans_replay(tmp_path: Path, pattern, target, budget):
    result = prune(pattern=pattern, target=target, budget=budget)
    x = images(5, seed=9)[0]
    loaded = metaprune.load(result.save(tmp_path / "own", source=SOURCE), trust=True)
    assert type(loaded) is nn.Sequential
    assert torch.equal(outputs(loaded, x), outputs(result.model, x))
    bare = metaprune.load(result.save(tmp_path / "bare"))
    torch.testing.assert_close(outputs(bare, x), outputs(result.model, x), rtol=1e-4, atol=1e-5)
    again = metaprune.apply(
        cnn(), images(), Plan.from_json(result.plan.to_json()), calibration=BATCHES
    )
    assert again.plan == result.plan
    assert torch.equal(outputs(again.model, x), outputs(result.model, x))


def test_sparse_parts_have_their_pattern_and_stay_through_finetuning():
    result = prune(pattern="1:2+low-rank", target={"sparsity": 0.3})
    assert isinstance(result.model[3], SparseLowRank)
    assert set(result.masks) == {
        "9.weight" if "9.weight" not in result.plan.rank else "9.sparse.weight", "3.sparse.weight",
    }  # fmt: skip
    sparse = result.model[3].sparse.weight
    pairs = sparse.movedim(1, -1).reshape(-1, 2)
    assert ((pairs != 0).sum(1) <= 1).all()
    assert torch.equal(sparse != 0, result.masks["3.sparse.weight"] & (sparse != 0))
    achieved = result.report["achieved"]
    assert achieved["sparsity"] == pytest.approx(0.3, abs=0.05)
    assert achieved["sparsity"] >= 0.3 - 1e-9


def test_more_numbers_give_a_smaller_error_and_all_of_them_none():
    """Of the outputs of a layer, which is what ranks are chosen for."""
    x = images(64)[0].flatten(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(192, 48), nn.Flatten())

    def error(share: str) -> float:
        found = metaprune.prune(
            model, (x,), pattern="low-rank", target={"params": share}, calibration=[(x,)]
        )
        return float((outputs(found.model, x) - outputs(model, x)).norm())

    errors = [error(share) for share in ("20%", "40%", "70%", "90%")]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 2 * errors[-1] > 0
    assert error("100%") < 1e-3 * errors[-1]


def test_a_llama_comes_back_in_its_class(tmp_path: Path):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=32, tie_word_embeddings=True, use_cache=False,
    )  # fmt: skip
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    tokens = torch.randint(0, 32, (2, 7))
    result = metaprune.prune(
        model, (tokens,), pattern="low-rank", target={"macs": "70%"}, calibration=[(tokens,)]
    )
    assert type(result.model) is LlamaForCausalLM
    assert not any("embed" in name or "lm_head" in name for name in result.plan.rank)
    loaded = metaprune.load(result.save(tmp_path / "llama"))
    assert type(loaded) is LlamaForCausalLM
    with torch.no_grad():
        assert torch.equal(loaded(tokens).logits, result.model(tokens).logits)


class Curious(nn.Module):
    """Its forward reads the weight of one of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu().to(self.second.weight.dtype))


def test_layers_that_are_read_elsewhere_stay_dense_and_that_is_said():
    torch.manual_seed(0)
    model, x = Curious().eval(), torch.randn(4, 12)
    result = metaprune.prune(
        model, (x,), pattern="low-rank", target={"params": "70%"}, budget="uniform", metanet=None
    )
    assert isinstance(result.model.first, nn.Sequential)
    assert isinstance(result.model.second, nn.Linear)
    assert list(result.plan.rank) == ["first.weight"]
    assert any("stay dense: second.weight" in note for note in result.report["notes"])


def test_layers_whose_factors_compute_something_else_stay_dense():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)).eval(), torch.randn(3, 6)
    right = Parts(Factors(model[0].weight.detach().clone(), torch.eye(6)))
    wrong = Parts(Factors(torch.randn(6, 6), torch.eye(6)))
    expected = outputs(model, x)
    assert installed(model, {"0.weight": right, "1.weight": wrong}, (x,)) == ["1.weight"]
    torch.testing.assert_close(outputs(model, x), expected)
    assert isinstance(model[0], nn.Sequential)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"target": {"macs": "1%"}}, UnreachableTargetError, "low rank in 3 weights leaves macs"),
        ({"target": None}, ValueError, "say what to reach"),
        (
            {"target": {"macs": "50%"}, "budget": "metanet"},
            ValueError,
            'unknown budget "metanet"',
        ),
        ({"target": {"macs": "50%"}, "solver": "admm"}, ValueError, "does not fit pattern"),
        (
            {"target": {"macs": "50%"}, "pattern": "sparse+low-rank"},
            ValueError,
            "masks leave shapes as they are",
        ),
        (
            {"target": {"sparsity": 0.9}, "pattern": "1:2+low-rank"},
            ValueError,
            "pattern 1:2 alone keeps 0.5",
        ),
        ({"target": {"macs": "50%"}, "pattern": "thin"}, ValueError, 'unknown pattern "thin"'),
    ],
)
def test_what_cannot_be_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        prune(**{"pattern": "low-rank", **options})


def test_a_sparse_part_needs_calibration():
    plan = prune(pattern="sparse+low-rank", target={"sparsity": 0.5}).plan
    with pytest.raises(ValueError, match=r'solver "sparse.low-rank" needs calibration'):
        metaprune.apply(cnn(), images(), plan)
    with pytest.raises(PlanError, match=r'gives "9.weight" rank 11'):
        metaprune.apply(cnn(), images(), Plan("low-rank", "low-rank", "x", rank={"9.weight": 11}))
    with pytest.raises(PlanError, match=r'rank of "9.weight" must be at least 1'):
        Plan("low-rank", "low-rank", "x", rank={"9.weight": 0})
    with pytest.raises(ValueError, match="there is no pruning in place"):
        metaprune.apply(cnn(), images(), plan, calibration=BATCHES, inplace=True)
