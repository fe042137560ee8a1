"""A block of a network by itself: what goes into it, how far off it is, and steps that mend it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from graphs.calls.running import run
from pruners.statistics.borders import Border, handed_on
from training.recovery.descent import Descent, descend
from training.recovery.masked import constraint_of


@dataclass(frozen=True)
class BlockDescent(Descent):
    """Settings of the steps on a block; see `training.recovery.descent.Descent`.

    Args:
        curved: share of the output's curvature in the error of a block, in [0, 1]; the rest counts
            all features alike.

    Raises:
        ValueError: a setting that makes no sense.
    """

    lr: float = 2e-3
    curved: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.curved <= 1:
            raise ValueError(f"curved must lie in [0, 1] (got {self.curved})")


@dataclass(frozen=True)
class Example:
    """A batch as a block meets it.

    Args:
        args, kwargs: what goes into the block of the pruned network.
        wanted: what the dense one hands on.
        counted: bool, (examples, places), where there is padding; None counts all.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    wanted: Tensor
    counted: Tensor | None = None


class _ReachedError(Exception):
    """A forward came to where it was to end."""


def example(dense: nn.Module, pruned: nn.Module, name: str, batch: Any) -> Example:
    """A batch as a block meets it; both networks run no further than there.

    Args:
        dense, pruned: in evaluation mode; both have the block.
        name: of the block.
        batch: inputs of either.
    """
    met: dict[str, Any] = {}

    def entered(_module: nn.Module, args: Any, kwargs: Any) -> None:
        met["args"], met["kwargs"] = pytree.tree_map_only(Tensor, Tensor.detach, (args, kwargs))
        raise _ReachedError

    def left(_module: nn.Module, _args: Any, output: Any) -> None:
        met["wanted"] = handed_on(output)
        raise _ReachedError

    block, original = pruned.get_submodule(name), dense.get_submodule(name)
    for model, hook in (
        (pruned, block.register_forward_pre_hook(entered, with_kwargs=True)),
        (dense, original.register_forward_hook(left)),
    ):
        with _until(hook), torch.no_grad():
            run(model, batch)
    return Example(**met, counted=counted_places(batch, met["wanted"]))


def counted_places(batch: Any, wanted: Tensor) -> Tensor | None:
    """Where a batch is no padding, bool, (examples, places); None where nothing says so.

    Args:
        batch: inputs of the network.
        wanted: what a block hands on for it, (examples, places, features) for a sequence.
    """
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if not isinstance(mask, Tensor) or mask.shape != wanted.shape[:2] or wanted.ndim != 3:
        return None
    return mask.bool()


def why_not(border: Border, dense: nn.Module, pruned: nn.Module, batch: Any) -> str | None:
    """What keeps a block from imitating that of the dense network; None where nothing does.

    Args:
        border: of the block.
        dense, pruned: in evaluation mode.
        batch: inputs of either.
    """
    if border.calls != 1:
        return "which a forward calls several times"
    block = dict(pruned.named_modules()).get(border.name)
    if block is None:
        return "which the pruned network has not"
    one = example(dense, pruned, border.name, batch)
    with torch.no_grad():
        found = handed_on(block(*one.args, **one.kwargs))
    if found is None or found.shape != one.wanted.shape:
        return "whose outputs have another shape than the dense ones"
    return None


@contextmanager
def _until(hook: Any) -> Iterator[None]:
    try:
        yield
    except _ReachedError:
        pass
    finally:
        hook.remove()


class BlockError:
    r"""How far off a block is, in the eyes of the predictions.

        mean tr(M (y − f(x)) (y − f(x))ᵀ),      M = c G / mean diag(G) + (1 − c) I

    Args:
        border: with the curvature G; without, c = 0.
        curved: c, in [0, 1].
    """

    def __init__(self, border: Border, curved: float) -> None:
        self._channel_dim, self._root = border.channel_dim, None
        found = border.curvature
        if found is not None and curved > 0 and float(mean := found.diagonal().mean()) > 0:
            eye = torch.eye(len(found), dtype=torch.float64, device=found.device)
            values, vectors = torch.linalg.eigh(curved * found.double() / mean + (1 - curved) * eye)
            self._root = vectors * values.clamp_min(0).sqrt()

    def __call__(self, block: nn.Module, example: Example) -> Tensor:
        """The error of a block on an example, a scalar with its graph."""
        found = handed_on(block(*example.args, **example.kwargs))
        assert found is not None
        return self.size(found - example.wanted, example)

    def size(self, difference: Tensor, example: Example) -> Tensor:
        """Of a difference of the shape of what the block hands on, a scalar."""
        rows = difference.movedim(self._channel_dim, -1)
        if self._root is not None:
            rows = rows @ self._root.to(rows)
        return (rows if example.counted is None else rows[example.counted]).square().mean()


def imitate_block(
    block: nn.Module,
    error: BlockError,
    learning: Sequence[Example],
    judging: Sequence[Example],
    masks: Mapping[str, Tensor],
    settings: BlockDescent,
    shared: Collection[int] = (),
) -> tuple[float, float]:
    """Move the weights of a block that stay to where it hands on what the dense one does.

    Args:
        block: of the pruned network; changed in place.
        error: of the block.
        learning, judging: batches that steps are taken on, and those that say which one was best.
        masks: parameter name → bool; a weight outside its mask stays 0.
        settings: of the steps.
        shared: ids of parameters that other modules hold too, which stay as they are.

    Returns:
        The relative error on what judges, before and after; never more after.
    """
    with torch.no_grad():
        size = fmean(float(error.size(one.wanted, one)) for one in judging)
    scale = max(size, torch.finfo(torch.float32).tiny)

    def judge() -> float:
        with torch.no_grad():
            return fmean(float(error(block, one)) for one in judging) / scale

    parameters = {
        name: parameter.requires_grad_()
        for name, parameter in block.named_parameters()
        if parameter.is_floating_point() and id(parameter) not in shared
    }
    restore = constraint_of(block, masks)
    with torch.enable_grad():
        found = descend(
            parameters,
            learning,
            lambda one: error(block, one) / scale,
            judge,
            settings,
            lambda: restore(block),
        )
    for parameter in parameters.values():
        parameter.requires_grad_(False)
        parameter.grad = None
    return found
