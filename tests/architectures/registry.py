"""The register of architectures: one entry, one small but structurally faithful network.

An entry gives a module and example inputs. Widths differ on purpose, so that a wrong coupling meets
a wrong size, and every kind of block occurs at least once.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Built = tuple[nn.Module, Any]


@dataclass(frozen=True)
class Architecture:
    """A network under test.

    Args:
        name: unique within the register.
        field: what it is for: the module that registers it.
        make: gives the module and its example inputs; `build` seeds it and draws its weights.
        needs: a package it comes from, or None; skipped where that cannot be imported.
        dtype: what the laws compare in: float64 unless a kernel or the forward has none of it.
        traits: what tests must know: `causal` language models generate, `refused` ones cannot be
            traced because their forward decides by the values of a tensor.
    """

    name: str
    field: str
    make: Callable[[], Built]
    needs: str | None = None
    dtype: torch.dtype = torch.float64
    traits: frozenset[str] = frozenset()


ARCHITECTURES: dict[str, Architecture] = {}


def register(
    name: str,
    make: Callable[[], Built],
    *,
    needs: str | None = None,
    dtype: torch.dtype = torch.float64,
    traits: str = "",
) -> None:
    """Add an entry; its field is the module that calls.

    Args:
        name: unique name.
        make: gives the module and its example inputs.
        needs: package it comes from.
        dtype: see `Architecture`.
        traits: words separated by spaces.

    Raises:
        ValueError: the name is taken.
    """
    if name in ARCHITECTURES:
        raise ValueError(f"architecture {name!r} is registered twice")
    field = make.__module__.rpartition(".")[2]
    entry = Architecture(name, field, make, needs, dtype, frozenset(traits.split()))
    ARCHITECTURES[name] = entry


def architecture(make: Callable[[], Built]) -> Callable[[], Built]:
    """Register a function under its own name."""
    register(make.__name__, make)
    return make


def available(entry: Architecture) -> bool:
    """Whether the package that an entry comes from is installed and works."""
    if entry.needs is None:
        return True
    if importlib.util.find_spec(entry.needs) is None:
        return False
    try:
        importlib.import_module(entry.needs)
    except (ImportError, RuntimeError, AttributeError, OSError):
        return False
    return True


def build(name: str, dtype: torch.dtype | None = None, seed: int = 0) -> Built:
    """An entry's module in evaluation mode with weights of gain about one, and its inputs.

    Args:
        name: of the entry.
        dtype: of the module and of the inputs that are not integers; the entry's own when None.
        seed: of weights and inputs.
    """
    torch.manual_seed(seed)
    dtype = dtype or ARCHITECTURES[name].dtype
    model, inputs = ARCHITECTURES[name].make()
    with torch.no_grad():
        for module in model.modules():
            for leaf, parameter in module.named_parameters(recurse=False):
                if parameter.dim() > 1:
                    fan_in = max(parameter[0].numel(), 1)
                    parameter.copy_(torch.randn_like(parameter) * fan_in**-0.5)
                elif leaf == "weight":
                    parameter.copy_(torch.rand_like(parameter) + 0.5)
                else:
                    parameter.copy_(parameter + 0.3 * torch.randn_like(parameter))
        for key, buffer in model.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_(0, 0.3)
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    model = model.to(dtype).eval()

    def cast(v: Any) -> Any:
        return v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v

    if isinstance(inputs, dict):
        return model, {k: cast(v) for k, v in inputs.items()}
    return model, tuple(map(cast, inputs))


def pretrained_class(
    name: str,
    config: dict[str, Any],
    inputs: Callable[[], dict[str, Any]],
    *,
    entry: str | None = None,
    dtype: torch.dtype = torch.float64,
    traits: str = "",
) -> None:
    """Register a class of `transformers`, from a configuration and without pretrained weights.

    Args:
        name: of the class.
        config: its configuration, as keywords; nested ones as dicts.
        inputs: gives the keyword arguments of its forward.
        entry: name of the entry; the class' name when None.
        dtype: see `Architecture`.
        traits: see `register`.
    """

    def make() -> Built:
        import transformers

        kind = getattr(transformers, name)
        return kind(kind.config_class(**config)), inputs()

    make.__module__ = inputs.__module__
    register(entry or name, make, dtype=dtype, traits=traits)


def image(channels: int = 3, size: int = 32, batch: int = 2) -> torch.Tensor:
    """Random images, (batch, channels, size, size)."""
    return torch.randn(batch, channels, size, size)


def tokens(vocabulary: int = 50, length: int = 7, batch: int = 2) -> torch.Tensor:
    """Random token ids above the special ones, (batch, length)."""
    return torch.randint(5, vocabulary, (batch, length))
