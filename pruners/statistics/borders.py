"""What repeated blocks hand on to each other, and the curvature of the output there.

As in `pruners.statistics.curvature`, but at the end of a block in the place of a weight's outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs.calls.running import run, undisturbed
from pruners.statistics.calls import Call, LinearCalls
from pruners.statistics.calls.rows import output_rows
from pruners.statistics.curvature import LARGEST, begun, of_scores
from pruners.statistics.likelihood import Likelihood, NoCurvatureError
from pruners.statistics.moments import gram


@dataclass(frozen=True)
class Border:
    """Where a block ends.

    Args:
        name: of the block.
        calls: of it in a forward.
        channel_dim: dimension of what it hands on that carries features; negative.
        curvature: Σ g gᵀ / predictions, (features, features); None where no gradient comes, or of
            more features than `pruners.statistics.curvature.LARGEST`.
    """

    name: str
    calls: int
    channel_dim: int
    curvature: torch.Tensor | None = None


def handed_on(output: Any) -> torch.Tensor | None:
    """What a block hands on: the first floating-point tensor of two dimensions or more."""
    leaves = pytree.tree_leaves(dict(output) if hasattr(output, "items") else output)
    tensors = (leaf for leaf in leaves if isinstance(leaf, torch.Tensor))
    return next((t for t in tensors if t.is_floating_point() and t.ndim > 1), None)


def borders(
    model: nn.Module,
    batches: Sequence[Any],
    blocks: Mapping[str, nn.Module],
    likelihood: Likelihood | None = None,
) -> list[Border]:
    """Where blocks end, in the order in which a forward comes to them.

    Features lie where the last linear map or convolution that gives a tensor of the same shape has
    them; along the last dimension if there is none.

    Args:
        model: runs in evaluation mode, and is left as it was.
        batches: inputs of the model.
        blocks: name → module of the model.
        likelihood: of what the gradients are taken.

    Returns:
        One for each block that the first batch calls and that hands a tensor on.
    """
    with undisturbed(model):
        model.requires_grad_(False)
        seen = _Seen()
        with torch.no_grad(), _ends(blocks, seen.end), LinearCalls(after=seen.after):
            run(model, batches[0])
        watch = _Gradients(seen.channels)
        try:
            with _ends(blocks, watch.end):
                count = of_scores(model, batches, watch, likelihood or Likelihood())
        except NoCurvatureError:
            watch.sums.clear()
    curvature = {name: found / count for name, found in watch.sums.items()}
    return [
        Border(name, calls, seen.channels[name], curvature.get(name))
        for name, calls in seen.calls.items()
    ]


@contextmanager
def _ends(
    blocks: Mapping[str, nn.Module], end: Callable[[str, torch.Tensor], None]
) -> Iterator[None]:
    """Inside this context, `end` hears of what every block hands on."""

    def heard(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        found = handed_on(output)
        if found is not None:
            end(name, found)

    hooks = [block.register_forward_hook(partial(heard, name)) for name, block in blocks.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Seen:
    """A forward: calls of blocks, and where the features of what they hand on lie."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.channels: dict[str, int] = {}
        self._last: dict[torch.Size, int] = {}

    def after(self, call: Call, output: torch.Tensor) -> None:
        self._last[output.shape] = call.channel_dim

    def end(self, name: str, output: torch.Tensor) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
        self.channels[name] = self._last.get(output.shape, -1)


class _Gradients:
    """Forms Σ g gᵀ inside the backward pass, at the ends of blocks.

    Args:
        channels: block name → dimension of its output that carries features.
    """

    def __init__(self, channels: Mapping[str, int]) -> None:
        self.start = torch.zeros((), requires_grad=True)
        self.sums: dict[str, torch.Tensor] = {}
        self.called: dict[str, str] = {}
        self._channels = channels

    def after(self, call: Call, output: torch.Tensor) -> torch.Tensor | None:
        """For `LinearCalls`: the output begins the graph if none has before it."""
        if output.requires_grad or not torch.is_grad_enabled():
            return None
        return begun(self.start, output)

    def end(self, name: str, output: torch.Tensor) -> None:
        """Hook what a block hands on."""
        channel_dim = self._channels.get(name)
        if channel_dim is None or not output.requires_grad or output.shape[channel_dim] > LARGEST:
            return

        def form(gradient: torch.Tensor) -> None:
            rows = output_rows(gradient.detach(), channel_dim)
            found = gram(rows.to(torch.promote_types(rows.dtype, torch.float32)))
            self.sums[name] = self.sums[name].add_(found) if name in self.sums else found

        output.register_hook(form)
