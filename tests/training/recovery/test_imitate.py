"""The recovery method "imitate": never worse on what it left out, masks exact, model as asked."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import metaprune
from training.recovery.descent import Descent, divided
from training.recovery.methods.imitate import imitation_loss

PATTERNS = {
    "channels": {"pattern": "channels", "target": {"macs": "50%"}},
    "unstructured": {"pattern": "unstructured", "target": {"sparsity": 0.6}},
    "2:4": {"pattern": "2:4"},
    "low-rank": {"pattern": "low-rank", "target": {"params": "60%"}},
}
IMITATE = {"imitate": {"steps": 60, "lr": 3e-4, "batch_size": 8, "judge_every": 5}}


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 5)
    )
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim > 1):
            weight.mul_(3)  # predictions of fresh layers hardly differ from each other
    return model


def pruned(pattern: str, recovery: list) -> metaprune.Result:
    x = torch.randn(128, 8, generator=torch.Generator().manual_seed(1))
    return metaprune.prune(
        network(), (x[:2],), metanet=None, calibration=[(part,) for part in x.split(32)],
        recovery=recovery, **PATTERNS[pattern],
    )  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_predictions_of_examples_left_out_are_no_further_than_before(pattern: str) -> None:
    solved, moved = pruned(pattern, ["default"]), pruned(pattern, ["default", IMITATE])
    x = torch.randn(128, 8, generator=torch.Generator().manual_seed(1))
    _, judging = divided([(part,) for part in x.split(32)], Descent(batch_size=8))
    dense = network().eval()
    with torch.no_grad():
        lost = [
            sum(float(imitation_loss(dense, one.model.eval(), batch)) for batch in judging)
            for one in (solved, moved)
        ]
    assert lost[1] <= lost[0]
    if moved.masks:  # a refit of whole layers may leave nothing to gain on so few examples
        assert lost[1] < lost[0]
    assert any("Imitated the dense predictions" in note for note in moved.report["notes"])


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_masks_stay_exact(pattern: str) -> None:
    result = pruned(pattern, ["default", IMITATE])
    values = dict(result.model.named_parameters())
    assert result.masks
    for name, mask in result.masks.items():
        assert bool((values[name][~mask] == 0).all())


def test_the_same_input_gives_the_same_result_and_no_gradient_is_left() -> None:
    first, second = (pruned("channels", ["default", IMITATE]).model for _ in range(2))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.grad is None
        assert one.requires_grad


@pytest.mark.parametrize("examples", [2, 3, 7, 48, 129])
@pytest.mark.parametrize("share", [0.05, 0.15, 0.5])
def test_every_example_learns_or_judges(examples: int, share: float) -> None:
    x = torch.arange(float(examples))[:, None]
    learning, judging = divided([(x,)], Descent(held_out=share))
    found = torch.cat([piece[0] for piece in learning + judging]).flatten()
    assert learning
    assert judging
    assert found.sort().values.tolist() == x.flatten().tolist()


def test_a_single_example_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two examples"):
        divided([(torch.randn(1, 8),)], Descent())


@pytest.mark.parametrize("options", [{"steps": 0}, {"lr": 0}, {"held_out": 0.6}, {"stepz": 3}])
def test_settings_that_make_no_sense_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        pruned("channels", [{"imitate": options}])
