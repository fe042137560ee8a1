"""Loading networks from configuration: where a network comes from is one registered function.

- `load("family", family="cifar_resnet", options={"depth": 20}, path="resnet20.th")`
- `load("transformers", path="folder or hub name")`
- `load("member", path="zoo/held_out/residual-1000000")`
- `load("function", function="package.module:function", options={...}, path=...)`
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graphs.tools.files import read_tensors
from training.networks.residual import cifar_resnet
from training.store import load_state

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"cifar_resnet": cifar_resnet}
_REGISTRY: dict[str, Callable[..., nn.Module]] = {}


def source(name: str) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Register a function `(**options) -> nn.Module` as a source of networks."""

    def register(function: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        if name in _REGISTRY:
            raise ValueError(f"source {name!r} is registered twice")
        _REGISTRY[name] = function
        return function

    return register


def sources() -> tuple[str, ...]:
    """Return the registered sources, sorted."""
    return tuple(sorted(_REGISTRY))


def load(source: str, **options: Any) -> nn.Module:
    """Load a network, in evaluation mode.

    Args:
        source: one of `sources()`.
        options: of that source; see its function.

    Raises:
        ValueError: for an unknown source or option, or a checkpoint that does not fit.
        FileNotFoundError: if a path does not exist.
    """
    if source not in _REGISTRY:
        raise ValueError(f"unknown source {source!r} of models; known: {', '.join(sources())}")
    function = _REGISTRY[source]
    known = inspect.signature(function).parameters
    unknown = [key for key in options if key not in known]
    if unknown:
        raise ValueError(
            f"model source {source!r} has no option {', '.join(map(repr, unknown))}; "
            f"it has: {', '.join(known)}"
        )
    return function(**options).eval()


@source("family")
def from_family(
    *,
    family: str,
    options: Mapping[str, Any] | None = None,
    shape: tuple[int, ...] | None = None,
    outputs: int | None = None,
    path: str | None = None,
    seed: int = 0,
) -> nn.Module:
    """Build a named architecture, and load a checkpoint into it.

    Args:
        family: `cifar_resnet`, or a family of the zoo.
        options: of the architecture.
        shape, outputs: of inputs and outputs, for families of the zoo.
        path: checkpoint, .th, .pt or .safetensors; initial weights when None.
        seed: of the initial weights.
    """
    from training.zoo.registry import Spec, build

    options = dict(options or {})
    if family in ARCHITECTURES:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _call(ARCHITECTURES[family], options, family)
    else:
        if shape is None or outputs is None:
            raise ValueError(f"family {family!r} of the zoo needs `shape` and `outputs`")
        model = build(Spec(family, options, tuple(shape), outputs, seed))
    return _with_checkpoint(model, path)


@source("transformers")
def from_transformers(
    *, path: str, dtype: str = "float32", attention: str = "sdpa", meta: bool = False
) -> nn.Module:
    """Load a transformers model by folder or hub name, with the class that its config names.

    Args:
        path: folder with config.json and safetensors, or hub name.
        dtype: of the weights: `float32`, `bfloat16` or `float16`.
        attention: implementation, `sdpa` or `eager`.
        meta: build it on the meta device, without weights: config.json is all that is read.
    """
    import transformers

    config = transformers.AutoConfig.from_pretrained(path)
    names = list(config.architectures or [])
    cls = getattr(transformers, names[0], None) if names else None
    config.use_cache = False  # a cache is a second output, which no analysis needs
    if meta:
        with torch.device("meta"):
            build = cls._from_config if cls else transformers.AutoModel.from_config
            return build(config, dtype=getattr(torch, dtype), attn_implementation=attention)
    return (cls or transformers.AutoModel).from_pretrained(
        path,
        config=config,
        dtype=getattr(torch, dtype),
        attn_implementation=attention,
        use_safetensors=True,
    )


@source("member")
def from_member(*, path: str) -> nn.Module:
    """Load a member of a zoo from its folder."""
    from training.zoo.members import load_member

    return load_member(path).load()


@source("function")
def from_function(
    *,
    function: str,
    options: Mapping[str, Any] | None = None,
    path: str | None = None,
    meta: bool = False,
) -> nn.Module:
    """Call a function of an installed package, and load a checkpoint into what it returns.

    Args:
        function: `package.module:function`, for instance `torchvision.models:resnet50`.
        options: keyword arguments.
        path: checkpoint, .th, .pt or .safetensors; the function's own weights when None.
        meta: call it on the meta device, so that its weights take no memory; without `path`.

    Raises:
        ValueError: no such function, it returns no module, or `meta` with a checkpoint.
    """
    if meta and path is not None:
        raise ValueError(f"meta builds without weights; leave the checkpoint {path!r} out")
    module_name, _, name = function.partition(":")
    try:
        builder = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"there is no function {function!r} ({error}); write it as package.module:function"
        ) from error
    with torch.device("meta") if meta else contextlib.nullcontext():
        model = _call(builder, dict(options or {}), function)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{function!r} must return a torch.nn.Module (got {type(model).__name__})")
    return _with_checkpoint(model, path)


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read a state dictionary; nothing in the file is executed.

    A `state_dict` inside a larger dictionary is found; the prefix `module.` of models saved from
    `DataParallel` is removed.

    Args:
        path: .safetensors, or .th, .pt, .pth, .bin as `torch.save` writes them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, or holds no state dictionary.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        state: Any = read_tensors(path)[0]
    elif not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {str(path)!r}")
    else:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds; each means the same to the user
            raise ValueError(f"checkpoint {str(path)!r} cannot be read: {error}") from error
        state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"checkpoint {str(path)!r} holds no state dictionary of tensors")
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _with_checkpoint(model: nn.Module, path: str | None) -> nn.Module:
    if path is not None:
        load_state(model, read_checkpoint(path), str(path))
    return model


def _call(function: Callable[..., nn.Module], options: dict[str, Any], name: str) -> nn.Module:
    try:
        return function(**options)
    except TypeError as error:
        raise ValueError(f"model {name!r} cannot be built: {error}") from error
