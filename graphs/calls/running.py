"""Running a user's module without leaving a trace in it.

    with evaluation(model):                 flags of training come back
    with quiet_evaluation(model):           so do configurations; no key/value cache is filled
    with undisturbed(model):                so do buffers and requires_grad
    outputs(model, inputs)                  a forward of fixed random numbers, or what it raised

What a forward keeps for its next call is a trace too: in evaluation mode, LeViT and its kind look
the biases of their attention up once and keep them in a dictionary, which they empty when they are
set to training. A copy with other weights must not start with them, and a module that was only run
to be looked at must not stay with them (`forget`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from graphs.errors import TraceError
from graphs.tools.switches import Switch

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a forward."""

_TABLES = ("_parameters", "_buffers", "_modules", "_flat_weights")


def forget(model: nn.Module) -> None:
    """Let the modules drop what they keep between calls, in the way that they do before training.

    Flags stay. Only modules that keep tensors and have a `train` of their own are asked.
    """
    for module in list(model.modules()):
        if type(module).train is nn.Module.train or not _keeps(module):
            continue
        flags = {part: part.training for part in module.modules()}
        module.train()
        for part, flag in flags.items():
            part.training = flag


def _keeps(module: nn.Module) -> bool:
    """Whether a module holds tensors in dictionaries or lists of its own."""
    return any(
        isinstance(entry, torch.Tensor)
        for name, held in vars(module).items()
        if isinstance(held, dict | list) and name not in _TABLES
        for entry in (held.values() if isinstance(held, dict) else held)
    )


def outputs(
    model: nn.Module, inputs: Inputs, *, training: bool = False
) -> list[torch.Tensor] | Exception:
    """The tensors a module returns in evaluation (or training) mode, or what it raised.

    Random numbers in the forward are those of a fixed seed; the caller's generator is not touched,
    and what the forward keeps for its next call is dropped.
    """
    args, kwargs = inputs
    with quiet(model, training=training), torch.no_grad(), seeded():
        try:
            result = forward(model, args, kwargs)
        except Exception as error:  # whatever a user's forward raises about shapes
            return error
        finally:
            forget(model)
    leaves = pytree.tree_leaves(dict(result) if hasattr(result, "items") else result)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


@contextmanager
def _in_steps() -> Iterator[None]:
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


IN_STEPS = Switch(_in_steps)
"""Attention of `nn.MultiheadAttention` in its own steps instead of one fused call."""

_GENERATORS = threading.RLock()


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Random numbers of a fixed seed; afterwards the caller's generators are as they were.

    `torch.manual_seed` would also seed accelerators that are only used later. Generators are of
    the whole process, so threads go through here one after the other.
    """
    used = torch.cuda.is_initialized()
    with (
        _GENERATORS,
        torch.random.fork_rng(devices=range(torch.cuda.device_count()) if used else []),
    ):
        torch.default_generator.manual_seed(seed)
        if used:
            torch.cuda.manual_seed_all(seed)
        yield


@contextmanager
def _eager() -> Iterator[None]:
    with torch.compiler.set_stance("force_eager"):
        yield


EAGER = Switch(_eager)
"""Compiled modules run as they are written."""


@contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """Run compiled submodules as they are written, without compiling them."""
    compiled = any(
        type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None
        for module in model.modules()
    )
    with EAGER if compiled else nullcontext():
        yield


def forward(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a model once, as it is; on the meta device with fake tensors.

    Code that asks whether it is being traced before it looks at values (masks of transformers)
    knows fake tensors, but not meta tensors.
    """
    leaves = (*model.parameters(), *model.buffers(), *pytree.tree_leaves((args, kwargs)))
    if not all(leaf.is_meta for leaf in leaves if isinstance(leaf, torch.Tensor)):
        return model(*args, **kwargs)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    args, kwargs = pytree.tree_map_only(torch.Tensor, mode.from_tensor, (args, kwargs))
    with mode:
        return model(*args, **kwargs)


def run(model: nn.Module, example: Any) -> Any:
    """Run a model once, as it is, on a batch: arguments, keyword arguments, or one tensor."""
    return forward(model, *as_inputs(example))


def as_inputs(example_inputs: Any) -> Inputs:
    """(args, kwargs) of a tuple of arguments, a dict of keyword arguments, or one tensor."""
    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, dict) or hasattr(example_inputs, "items"):
        return (), dict(example_inputs)
    if isinstance(example_inputs, tuple | list):
        return tuple(example_inputs), {}
    raise TraceError(
        "example_inputs must be a tuple of positional arguments or a dict of keyword arguments "
        f"(got {type(example_inputs).__name__})"
    )


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Training or evaluation mode; afterwards every module's flag is as it was.

    Modules with a `train` of their own (a frozen norm, an exported graph) are asked by it.
    """
    flags = {module: module.training for module in model.modules()}
    if any(flag is not training for flag in flags.values()):
        try:
            model.train(training)
        except NotImplementedError:  # graphs that torch.export made refuse it
            for module in flags:
                module.training = training
    try:
        yield
    finally:
        # Modules come before those they hold, whose flags may change with theirs.
        for module, flag in flags.items():
            if module.training is not flag:
                _set(module, flag)


def _set(module: nn.Module, flag: bool) -> None:
    if type(module).train is not nn.Module.train:
        module.train(flag)
    module.training = flag


def evaluation(model: nn.Module) -> AbstractContextManager[None]:
    """Evaluation mode; flags come back afterwards."""
    return in_mode(model, training=False)


def quiet_evaluation(model: nn.Module) -> AbstractContextManager[None]:
    """Evaluation mode without a key/value cache; flags and configuration come back afterwards."""
    return quiet(model, training=False)


@contextmanager
def quiet(model: nn.Module, *, training: bool) -> Iterator[None]:
    """A mode without a key/value cache; flags and configuration come back afterwards."""
    # Encoder and decoder of one model may have configurations of their own.
    found: list[Any] = [vars(module).get("config") for module in model.modules()]
    caching = {id(c): c for c in found if getattr(c, "use_cache", None) is True}
    for config in caching.values():
        config.use_cache = False
    try:
        with in_mode(model, training=training):
            yield
    finally:
        for config in caching.values():
            config.use_cache = True


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Quiet evaluation; on leaving, requires_grad and the values of buffers are as before too.

    `.grad` fields are not touched by this context: use `torch.autograd.grad` inside it.
    """
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        with quiet_evaluation(model):
            yield
    finally:
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
