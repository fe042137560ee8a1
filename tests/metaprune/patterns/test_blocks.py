"""Dropping whole layers through the pipeline: plan, apply, save, load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import metaprune
from pruners import Plan, PlanError


class Layer(nn.Module):
    def __init__(self, strength: float) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
        with torch.no_grad():
            self.body[2].weight.mul_(strength)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


def stack() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [Layer(s) for s in (2.0, 0.1, 1.5, 0.2)]
    return nn.Sequential(nn.Linear(5, 8), *layers, nn.Linear(8, 3)).eval()


BATCHES = [(torch.randn(16, 5),) for _ in range(2)]


def test_layers_are_dropped_to_the_target_and_the_result_opens_again(tmp_path: Path) -> None:
    model = stack()
    result = metaprune.prune(
        model, BATCHES[0], pattern="blocks", target={"macs": "60%"}, calibration=BATCHES
    )
    assert set(result.plan.dropped) == {"2.body", "4.body"}
    assert type(result.model) is nn.Sequential
    assert len(result.model) == 4
    assert result.report["achieved"]["macs"] == result.plan.achieved["macs"]
    assert result.report["achieved"]["speedup"] >= 1 / 0.6
    folder = result.save(tmp_path / "short")
    again = metaprune.load(folder)
    torch.testing.assert_close(again(*BATCHES[0]), result.model(*BATCHES[0]))


def test_a_plan_of_blocks_replays_from_its_text() -> None:
    model = stack()
    plan = metaprune.plan(
        model, BATCHES[0], pattern="blocks", target={"macs": "60%"}, calibration=BATCHES
    )
    again = Plan.from_json(plan.to_json())
    assert again == plan
    result = metaprune.apply(model, BATCHES[0], again)
    assert sum(p.numel() for p in result.model.parameters()) < sum(
        p.numel() for p in model.parameters()
    )


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="pass `calibration` or `data`"):
        metaprune.plan(stack(), BATCHES[0], pattern="blocks", target={"macs": "60%"})
    with pytest.raises(PlanError, match=r'drops block "9\.body"'):
        metaprune.apply(stack(), BATCHES[0], Plan("blocks", "magnitude", "x", dropped=("9.body",)))
    with pytest.raises(ValueError, match='budget "lamp" cannot divide pattern "blocks"'):
        metaprune.plan(stack(), BATCHES[0], pattern="blocks", target={"macs": "60%"}, budget="lamp")


def test_layers_that_move_up_are_fitted_to_what_they_were() -> None:
    model = stack()
    with torch.no_grad():
        for parameter in model[1].body[2].parameters():
            parameter.zero_()
    plan = Plan("blocks", "magnitude", "greedy", dropped=("1.body",))
    result = metaprune.apply(model, BATCHES[0], plan, calibration=BATCHES, recovery=["refit"])
    assert type(result.model) is nn.Sequential
    torch.testing.assert_close(
        result.model(*BATCHES[0]), model(*BATCHES[0]), rtol=1e-4, atol=1e-4
    )  # fmt: skip


def test_masks_move_up_with_their_layers() -> None:
    sparse = metaprune.prune(
        stack(), BATCHES[0], pattern="unstructured", target={"sparsity": 0.5}, metanet=None
    )
    plan = Plan("blocks", "magnitude", "greedy", dropped=("1.body",))
    short = metaprune.apply(sparse.model, BATCHES[0], plan, calibration=BATCHES)
    for before, after in ((2, 1), (3, 2), (4, 3)):
        for leaf in ("0", "2"):
            mask = sparse.masks[f"{before}.body.{leaf}.weight"]
            assert torch.equal(short.masks[f"{after}.body.{leaf}.weight"], mask)
            weight = short.model.get_parameter(f"{after}.body.{leaf}.weight")
            assert not weight[~mask].any()


def test_what_loses_less_on_examples_left_out_is_taken() -> None:
    torch.manual_seed(3)
    many = [(torch.randn(64, 5),) for _ in range(4)]
    layers = [Layer(s) for s in (2.0, 1.0, 1.5, 1.2, 0.9)]
    model = nn.Sequential(nn.Linear(5, 8), *layers, nn.Linear(8, 3)).eval()
    given = {"pattern": "blocks", "target": {"macs": "45%"}, "calibration": many}
    result = metaprune.prune(model, many[0], **given)
    tried = result.plan.provenance.get("tried")
    if tried is not None:
        assert set(tried) == {"expected loss", "evaluation"}
        assert any(note.startswith("Tried on examples left out") for note in result.report["notes"])
    assert result.report["achieved"]["macs"] <= 0.45 * result.report["dense"]["macs"]


def test_blocks_of_networks_without_scores_are_chosen_by_evaluation() -> None:
    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = stack()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x).detach()

    given = {"pattern": "blocks", "target": {"macs": "60%"}, "calibration": BATCHES}
    result = metaprune.prune(Rounded(), BATCHES[0], **given)
    assert set(result.plan.dropped) == {"body.2.body", "body.4.body"}
    assert any(
        note.startswith("Budget divided by evaluation alone: the output does not depend smoothly")
        for note in result.report["notes"]
    )


def test_blocks_are_divided_by_expected_loss_where_it_is_asked_for() -> None:
    given = {"pattern": "blocks", "target": {"macs": "60%"}, "calibration": BATCHES}
    model = stack()
    result = metaprune.prune(model, BATCHES[0], **given)
    assert result.plan.budget == "expected-loss"
    assert set(result.plan.dropped) == {"2.body", "4.body"}
    assert result.plan == Plan.from_json(result.plan.to_json())
    divergence = result.plan.provenance["divergence"]
    assert list(divergence) == list(result.plan.dropped)
    assert sorted(divergence.values()) == list(divergence.values())
    assert metaprune.plan(model, BATCHES[0], **given) == result.plan
    other = metaprune.plan(model, BATCHES[0], budget="imitation", **given)
    assert (other.budget, other.dropped) == ("imitation", result.plan.dropped)
    with pytest.raises(ValueError, match='budget "expected-loss" of "blocks" reads no options'):
        metaprune.plan(model, BATCHES[0], budget={"rule": "expected-loss", "shots": 2}, **given)
