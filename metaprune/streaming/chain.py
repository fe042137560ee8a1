"""The blocks of a model as a chain: what goes into the first, what each is told, what follows.

A forward runs with other functions in the place of the blocks, so that the code before, between and
behind them stays the model's own: embeddings, masks, positions, the final norm and the head.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from graphs.calls.running import as_inputs, quiet_evaluation, run
from metaprune.calibration.checking import known, vocabulary
from metaprune.streaming.skeleton import Skeleton
from pruners.statistics.recompute import repeated_blocks


class NoChainError(ValueError):
    """The blocks of a model do not hand one tensor on to each other."""


class _StopError(Exception):
    """A forward came to the last block."""


@dataclass(frozen=True)
class Entry:
    """A batch before the first block.

    Args:
        hidden: what goes into the first block, (examples, places, features).
        told: for each block, keyword arguments beside what the block before it hands on.
    """

    hidden: Tensor
    told: tuple[dict[str, Any], ...]


class Chain:
    """Blocks that hand one tensor on to each other, in the order of the forward.

    Args:
        skeleton: of the model.
        example: a batch, on which one forward shows what follows what.

    Attributes:
        names: of the blocks.
        into: block name → argument of its forward that takes what is handed on.

    Raises:
        NoChainError: there are no repeated blocks, or something else happens between them.
        ValueError: tokens that the model does not have, or more of them than positions.
    """

    def __init__(self, skeleton: Skeleton, example: Any) -> None:
        self.skeleton, self._model = skeleton, skeleton.model
        paths = {module: name for name, module in self._model.named_modules()}
        blocks = [paths[block] for block in repeated_blocks(self._model)]
        if not blocks:
            raise NoChainError(f"{type(self._model).__name__} has no list of repeated blocks")
        check_tokens(self._model, example)
        self.into = {name: _first_argument(self._model.get_submodule(name)) for name in blocks}
        self.names = self._followed(blocks, example)

    @torch.no_grad()
    def enter(self, batch: Any) -> Entry:
        """A batch before the first block.

        Raises:
            ValueError: tokens that the model does not have, or more of them than positions.
        """
        check_tokens(self._model, batch)
        hidden: list[Tensor] = []
        told: list[dict[str, Any]] = []

        def through(name: str, *args: Any, **kwargs: Any) -> Tensor:
            bound = self._bound(name, args, kwargs)
            handed: Tensor = bound.pop(self.into[name])
            told.append(bound)
            hidden.append(handed)
            if name == self.names[-1]:
                raise _StopError
            return handed

        with self._replaced(through), suppress(_StopError):
            run(self._model, batch)
        return Entry(hidden[0], tuple(told))

    def leave(self, batch: Any, hidden: Tensor) -> Any:
        """What the model gives where the last block hands on `hidden`; its graph is kept."""

        def through(name: str, *args: Any, **kwargs: Any) -> Tensor:
            handed: Tensor = self._bound(name, args, kwargs)[self.into[name]]
            return hidden if name == self.names[-1] else handed

        with self._replaced(through):
            return run(self._model, batch)

    def inputs(self, index: int, hidden: Tensor, entry: Entry) -> dict[str, Any]:
        """Keyword arguments of a block: what is handed on, and what it is told."""
        return {self.into[self.names[index]]: hidden, **entry.told[index]}

    def _bound(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        signature = inspect.signature(type(self._model.get_submodule(name)).forward)
        bound = signature.bind(None, *args, **kwargs).arguments
        free = {key: p.kind for key, p in signature.parameters.items()}
        plain = {k: v for k, v in bound.items() if free[k] is not inspect.Parameter.VAR_KEYWORD}
        for key in bound.keys() - plain.keys():
            plain |= bound[key]
        plain.pop("self")
        return plain

    @contextmanager
    def _replaced(self, through: Callable[..., Tensor]) -> Iterator[None]:
        """Inside this context, `through` stands where the forwards of the blocks were."""
        blocks = {name: self._model.get_submodule(name) for name in self.names}
        before = {name: vars(block).get("forward") for name, block in blocks.items()}
        for name, block in blocks.items():
            block.forward = partial(through, name)
        try:
            with quiet_evaluation(self._model):
                yield
        finally:
            for name, block in blocks.items():
                if before[name] is None:
                    del block.forward
                else:
                    block.forward = before[name]

    def _followed(self, blocks: Sequence[str], example: Any) -> list[str]:
        """The blocks in the order of a forward, which must lead from each to the next one."""
        order: list[str] = []
        last: list[Any] = []
        # Inside a block, modules may read weights of others (convolutions of state spaces).
        held = ExitStack()

        def enters(name: str, _module: nn.Module, args: Any, kwargs: Any) -> None:
            given = self._bound(name, args, kwargs).get(self.into[name])
            if name in order:
                raise NoChainError(f"{name} is called several times in a forward")
            if last and given is not last[0]:
                raise NoChainError(f"{name} does not get what {order[-1]} gives, as it is")
            order.append(name)
            held.enter_context(self.skeleton.filled(name))

        def leaves(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
            held.close()
            if not isinstance(output, Tensor):
                raise NoChainError(f"{name} gives a {type(output).__name__}, not one tensor")
            last[:] = [output]

        hooks: list[Any] = []
        for name in blocks:
            block = self._model.get_submodule(name)
            hooks.append(block.register_forward_pre_hook(partial(enters, name), with_kwargs=True))
            hooks.append(block.register_forward_hook(partial(leaves, name)))
        try:
            with quiet_evaluation(self._model), torch.no_grad():
                run(self._model, example)
        finally:
            held.close()
            for hook in hooks:
                hook.remove()
        missing = [name for name in blocks if name not in order]
        if missing:
            raise NoChainError(f"a forward never calls {missing[0]}")
        return order


def _first_argument(block: nn.Module) -> str:
    """The name of the first argument of a forward."""
    return list(inspect.signature(type(block).forward).parameters)[1]


def check_tokens(model: nn.Module, batch: Any) -> None:
    """Refuse tokens that a model cannot read.

    Args:
        model: with the configuration of transformers that says how many there may be.
        batch: whose token ids are its first argument, or `input_ids`.

    Raises:
        ValueError: no tensor of whole numbers, (examples, tokens); ids beyond the vocabulary, or
            windows beyond the positions.
    """
    args, kwargs = as_inputs(batch)
    tokens = args[0] if args else kwargs.get("input_ids")
    if tokens is None:
        return
    if not isinstance(tokens, Tensor) or tokens.is_floating_point() or tokens.ndim != 2:
        told = type(tokens).__name__
        if isinstance(tokens, Tensor):
            told = f"{str(tokens.dtype).removeprefix('torch.')} of shape {tuple(tokens.shape)}"
        raise ValueError(
            f"token ids are whole numbers, (examples, tokens) (got {told}): give a list of such "
            "tensors, or of mappings with input_ids"
        )
    known(vocabulary(model), tokens, "the calibration")
    positions = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if positions is not None and tokens.shape[-1] > positions:
        raise ValueError(
            f"windows have {tokens.shape[-1]} tokens, and the model has {positions} positions: "
            "shorten them (data.window)"
        )
