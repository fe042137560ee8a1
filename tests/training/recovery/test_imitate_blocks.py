"""The recovery method "imitate-blocks": blocks alone, never worse together, masks exact."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import metaprune
from graphs.calls.running import undisturbed
from pruners.curves import Judge
from pruners.statistics.borders import Border, borders, handed_on
from pruners.statistics.recompute import repeated_blocks
from tests.oracles.networks.families import build
from training.recovery.blocks import BlockDescent, BlockError, Example, example, why_not
from training.recovery.descent import divided

PATTERNS = {
    "channels": {"pattern": "channels", "target": {"macs": "60%"}},
    "unstructured": {"pattern": "unstructured", "target": {"sparsity": 0.6}},
    "2:4": {"pattern": "2:4"},
    "low-rank": {"pattern": "low-rank", "target": {"params": "70%"}},
}
OPTIONS = {"steps": 60, "lr": 1e-3, "batch_size": 8, "judge_every": 5}
SETTINGS = BlockDescent(**OPTIONS)
BLOCKS = {"imitate-blocks": OPTIONS}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.down = nn.Linear(3 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(self.up(self.norm(x)).relu())


class Residual(nn.Module):
    def __init__(self, blocks: int = 3, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Linear(6, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.head = nn.Linear(width, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Looped(Residual):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in [*self.blocks, *self.blocks]:
            x = block(x)
        return self.head(x)


def network(make: type[Residual] = Residual) -> nn.Module:
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.ndim > 1):
            weight.mul_(3)  # predictions of fresh layers hardly differ from each other
    return model


def calibration() -> list:
    x = torch.randn(192, 6, generator=torch.Generator().manual_seed(1))
    return [(part,) for part in x.split(32)]


def pruned(pattern: str, recovery: list, make: type[Residual] = Residual) -> metaprune.Result:
    batches = calibration()
    return metaprune.prune(
        network(make), (batches[0][0][:2],), metanet=None, calibration=batches,
        recovery=recovery, **PATTERNS[pattern],
    )  # fmt: skip


def note(result: metaprune.Result, words: str) -> str:
    return next(note for note in result.report["notes"] if words in note)


@pytest.mark.parametrize("recovery", [[], ["default"]])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_predictions_of_examples_left_out_are_no_further_than_before(
    pattern: str, recovery: list
) -> None:
    solved, moved = pruned(pattern, recovery), pruned(pattern, [*recovery, BLOCKS])
    judge = Judge(network().eval(), divided(calibration(), SETTINGS)[1])
    assert judge(moved.model) <= judge(solved.model)
    if not recovery and pattern != "channels":
        assert judge(moved.model) < judge(solved.model)
        assert "dense block" in note(moved, "Imitated")


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_masks_stay_exact(pattern: str) -> None:
    result = pruned(pattern, ["default", BLOCKS])
    values = dict(result.model.named_parameters())
    assert result.masks
    for name, mask in result.masks.items():
        assert bool((values[name][~mask] == 0).all())


def test_the_same_input_gives_the_same_result_and_no_gradient_is_left() -> None:
    first, second = (pruned("channels", ["default", BLOCKS]).model for _ in range(2))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.grad is None
        assert one.requires_grad


def test_only_blocks_move() -> None:
    solved, moved = pruned("2:4", []), pruned("2:4", [BLOCKS])
    before = dict(solved.model.named_parameters())
    differ = {n for n, p in moved.model.named_parameters() if not torch.equal(p, before[n])}
    assert differ
    assert all(name.startswith("blocks.") for name in differ)


def test_steps_too_far_are_taken_back() -> None:
    solved = pruned("2:4", ["default"])
    wild = {**OPTIONS, "lr": 30.0, "steps": 3, "judge_every": 1}
    moved = pruned("2:4", ["default", {"imitate-blocks": wild}])
    for one, other in zip(solved.model.parameters(), moved.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_blocks_that_are_called_again_are_left_as_they_were() -> None:
    solved, moved = (pruned("2:4", r, Looped) for r in (["default"], ["default", BLOCKS]))
    assert "which a forward calls several times" in note(moved, "Not imitated")
    for one, other in zip(solved.model.parameters(), moved.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_model_without_repeated_blocks_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 5))
    batches = calibration()
    result = metaprune.prune(
        model, (batches[0][0][:2],), metanet=None, calibration=batches, pattern="2:4",
        recovery=["default", "imitate-blocks"],
    )  # fmt: skip
    assert "repeats none" in note(result, "No block imitated")


def test_a_narrower_stream_is_not_imitated() -> None:
    dense, narrow = network(), Residual(width=6)
    border = Border("blocks.0", calls=1, channel_dim=-1)
    why = why_not(border, dense.eval(), narrow.eval(), calibration()[0])
    assert why is not None
    assert "another shape" in why


@pytest.mark.parametrize("family", ["llama", "vit"])
def test_a_block_alone_gives_what_it_gives_in_the_whole(family: str) -> None:
    model, inputs = build(family)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    names = {module: name for name, module in model.named_modules()}
    blocks = {names[block]: block for block in repeated_blocks(model)}
    with undisturbed(model), undisturbed(other), torch.no_grad():
        found = borders(model, [inputs], blocks)
        assert len(found) == len(blocks) > 1
        for border in found:
            whole = {}
            hooks = [
                net.get_submodule(border.name).register_forward_hook(
                    lambda _, __, output, key=key, whole=whole: whole.update(
                        {key: handed_on(output)}
                    )
                )
                for key, net in (("dense", model), ("pruned", other))
            ]
            for net in (model, other):
                net(**inputs)
            for hook in hooks:
                hook.remove()
            one = example(model, other, border.name, inputs)
            alone = handed_on(other.get_submodule(border.name)(*one.args, **one.kwargs))
            assert torch.equal(one.wanted, whole["dense"])
            torch.testing.assert_close(alone, whole["pruned"])


def test_padding_does_not_count() -> None:
    error = BlockError(Border("block", 1, -1), 0.9)
    difference = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    counted = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    one = Example((), {}, difference, counted)
    other = difference.masked_fill(~counted[..., None], 1e9)
    assert error.size(difference, one) == error.size(other, one)


def test_the_error_is_the_quadratic_form_of_the_curvature() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    curved, share = root @ root.T, 0.7
    difference = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)
    error = BlockError(Border("block", 1, 1, curved), share)
    metric = share * curved / curved.diagonal().mean() + (1 - share) * torch.eye(4)
    wanted = torch.einsum("ncp,cd,ndp->", difference, metric, difference) / difference.numel()
    found = error.size(difference, Example((), {}, difference))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("options", [{"steps": 0}, {"lr": 0}, {"curved": 1.5}, {"stepz": 3}])
def test_settings_that_make_no_sense_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        pruned("2:4", [{"imitate-blocks": options}])
