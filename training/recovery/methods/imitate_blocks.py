"""Recovery method "imitate-blocks": every repeated block moved towards what the dense one gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, ClassVar

import torch
from torch import nn

from graphs.calls.running import undisturbed
from graphs.tools.words import counted
from pruners.curves import Judge
from pruners.curves.trial import in_words
from pruners.recovery.base import Pruning, Stage, recovery
from pruners.statistics import NoCurvatureError
from pruners.statistics.borders import Border, borders
from pruners.statistics.recompute import repeated_blocks
from training.config import from_mapping
from training.recovery.blocks import (
    BlockDescent,
    BlockError,
    example,
    imitate_block,
    why_not,
)
from training.recovery.descent import divided


@recovery("imitate-blocks")
class ImitateBlocks:
    r"""All weights of a block that stay, moved to where what it hands on is closest to the dense.

        min over W of mean tr(M (y − f(x; W)) (y − f(x; W))ᵀ)

    y what the dense block hands on, x what the pruned blocks before it give, M the curvature of the
    predictions there, mixed with the identity (`training.recovery.blocks.BlockError`). Blocks are
    those that the model repeats (`pruners.statistics.recompute.repeated_blocks`), in the order of
    the forward; activations of one block at a time are kept. It needs no labels and no data set:
    examples left out decide how far a block goes, and whether the predictions came closer by it; if
    they did not, the block stays as it was.

    Args:
        options: see `BlockDescent`.

    Raises:
        ValueError: an unknown setting, or one that makes no sense.
    """

    name: ClassVar[str] = "imitate-blocks"
    stage: ClassVar[Stage] = "after"
    serves: ClassVar[frozenset[str]] = frozenset({"axes", "weights"})
    needs: ClassVar[frozenset[str]] = frozenset({"batches", "teacher"})

    def __init__(self, **options: Any) -> None:
        self.settings = from_mapping(BlockDescent, options, "recovery.imitate-blocks")

    def recover(self, pruning: Pruning) -> None:
        """See `pruners.recovery.base.Recovery`."""
        assert pruning.pruned is not None
        pruned, dense = pruning.pruned, pruning.dense.to_model().eval()
        learning, judging = divided(pruning.batches, self.settings)
        names = {module: name for name, module in dense.named_modules()}
        blocks = {names[block]: block for block in repeated_blocks(dense)}
        if not blocks:
            pruning.notes.append(f"No block imitated: {type(dense).__name__} repeats none.")
            return
        judge = _judge(dense, judging)
        first = lost = judge(pruned)
        errors: list[tuple[float, float]] = []
        left: Counter[str] = Counter()
        with undisturbed(dense), undisturbed(pruned):
            for border in borders(dense, learning, blocks):
                if why := why_not(border, dense, pruned, learning[0]):
                    left[why] += 1
                    continue
                block = pruned.get_submodule(border.name)
                kept = [parameter.detach().clone() for parameter in block.parameters()]
                moved = self._imitate(pruning, dense, border, learning, judging)
                found = judge(pruned)
                if found <= lost:
                    errors.append(moved)
                    lost = found
                    continue
                left["after which the predictions are further off"] += 1
                with torch.no_grad():
                    for parameter, value in zip(block.parameters(), kept, strict=True):
                        parameter.copy_(value)
        pruning.notes += [f"Not imitated: {counted(n, 'block')}, {why}." for why, n in left.items()]
        if errors:
            told = f"; divergence {in_words(first)} before, {in_words(lost)} after"
            pruning.notes.append(
                _told(errors, self.settings.steps)
                + (told if isinstance(judge, Judge) else "")
                + "."
            )

    def _imitate(
        self,
        pruning: Pruning,
        dense: nn.Module,
        border: Border,
        learning: Sequence[Any],
        judging: Sequence[Any],
    ) -> tuple[float, float]:
        """Move a block; its relative error on what is left out, before and after."""
        pruned, name = pruning.pruned, border.name
        assert pruned is not None
        met, judged = (
            [example(dense, pruned, name, batch) for batch in part] for part in (learning, judging)
        )
        masks = {
            weight.removeprefix(f"{name}."): mask
            for weight, mask in pruning.masks.items()
            if weight.startswith(f"{name}.")
        }
        error = BlockError(border, self.settings.curved)
        block, shared = pruned.get_submodule(name), _shared(pruned, name)
        return imitate_block(block, error, met, judged, masks, self.settings, shared)


def _judge(dense: nn.Module, batches: Sequence[Any]) -> Callable[[nn.Module], float]:
    """Divergence from the dense predictions; 0 where outputs are no scores."""
    try:
        return Judge(dense, batches)
    except NoCurvatureError:
        return lambda _: 0.0


def _shared(model: nn.Module, name: str) -> set[int]:
    """Parameters that other modules than those of a block hold too."""
    return {
        id(parameter)
        for other, parameter in model.named_parameters(remove_duplicate=False)
        if not other.startswith(f"{name}.")
    }


def _told(errors: Sequence[tuple[float, float]], steps: int) -> str:
    """The beginning of a sentence about the blocks that were moved."""
    first, last = (fmean(each) for each in zip(*errors, strict=True))
    return (
        f"Imitated {counted(len(errors), 'dense block')} for {steps} steps each; relative error on "
        f"examples left out {first:.3g} before, {last:.3g} after"
    )
