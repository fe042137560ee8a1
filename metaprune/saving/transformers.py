"""Whether a pruned transformers model can be said in its configuration, and by which one.

    config = plain_config(net)      class(config) has the shapes of `net`, or None

A configuration knows one width for all layers, and its class ties some widths to others (a hidden
size that the heads divide). That is tried: the class is built on the meta device, which costs no
memory, and its shapes are compared.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphs import Network
from graphs.build.attributes import evidence
from graphs.build.compare import agree
from graphs.build.configs import configs
from graphs.build.search import configured_numbers
from graphs.calls.copying import copy_module
from graphs.calls.running import as_inputs, outputs
from metaprune.results.pruned import Pruned
from metaprune.saving.dtypes import cast


def resized(net: Network, kept: Mapping[str, int]) -> Network:
    """The network with other sizes of axes, as a structure: its tensors are not cut."""
    axes = {name: replace(axis, size=kept.get(name, axis.size)) for name, axis in net.axes.items()}
    return replace(net, axes=axes)


def plain_config(net: Network) -> Any | None:
    """The configuration whose model has the shapes of a network; None where there is none.

    Args:
        net: a network of a transformers model, pruned or `resized`.
    """
    model: Any = net.source.model
    expected = _expected(net)
    for config in _candidates(net, model):
        built = _built(type(model), config)
        if built is not None and _shapes(built) == expected and _same_numbers(built, model):
            return config
    return None


def layer_configs(net: Network) -> dict[int, dict[str, int]] | None:
    """What differs from layer to layer: layer → {field: value}; None where that does not say it.

    Each layer's own configuration, taken for the whole model, must give that layer its shapes.
    """
    model: Any = net.source.model
    base, varied = _repaired(net, model)
    found: dict[int, dict[str, int]] = {}
    for field, values in varied.items():
        for path, value in values.items():
            layer = _layer(path)
            if layer is None or found.setdefault(layer, {}).setdefault(field, value) != value:
                return None
    expected = _expected(net)
    fields = set(varied)
    built: dict[tuple[tuple[str, int], ...], dict[str, tuple[int, ...]]] = {}
    for layer, values in found.items():
        if set(values) != fields:
            return None
        key = tuple(sorted(values.items()))
        if key not in built:
            config = copy.deepcopy(base)
            for field, value in values.items():
                setattr(config, field, value)
            built[key] = _shapes(_built(type(model), config))
        shapes = built[key]
        if any(
            shapes.get(name) != shape
            for name, shape in expected.items()
            if _layer(name) in (layer, None)
        ):
            return None
    return found or None


def write(result: Pruned, folder: Path) -> bool:
    """Write a transformers model so that plain `from_pretrained` opens it, if it can be said so.

    Where widths differ between layers, only the configuration is written, with what differs in its
    `per_layer_config`: transformers 5 reads such a configuration and refuses to build it, which
    says more than a shape that does not match.

    Returns:
        Whether `from_pretrained` gave a model that computes the same; else no tensors are written.
    """
    model: Any = result.model
    held = model.config
    config: Any = held
    if any(step.kept or step.dropped for step in result.plan.steps):
        config = plain_config(result.network)
    if config is not None:
        try:
            model.config = config
            with _no_bars():
                model.save_pretrained(folder)
        finally:
            model.config = held
        how = {"class": type(model).__name__, "attention": held._attn_implementation}
        probe = as_inputs(result.example_inputs)
        opened = read(folder, how)
        # Some classes keep some weights in single precision, whatever the others are in.
        same = cast(copy_module(model, {}), dict(opened.named_parameters()), {})
        if agree(outputs(opened, probe), outputs(same, probe)):
            return True
        for path in folder.iterdir():
            path.unlink()
    layers = layer_configs(result.network)
    if layers is not None:
        config = _repaired(result.network, result.network.source.model)[0]
        config.architectures = [type(model).__name__]
        config.per_layer_config = layers
        config.to_json_file(folder / "config.json")
    return False


def read(folder: Path, how: Mapping[str, Any]) -> nn.Module:
    """The model that `write` wrote, in the class and with the attention that `how` names."""
    import transformers

    with _no_bars():
        model: nn.Module = getattr(transformers, how["class"]).from_pretrained(
            folder, dtype="auto", attn_implementation=how["attention"]
        )
    return model


def build(architecture: Mapping[str, Any]) -> nn.Module:
    """A model with random weights, in the class and configuration that `Dense` remembers."""
    import transformers

    cls = getattr(transformers, architecture["class"])
    config = cls.config_class.from_dict(architecture["config"])
    config._attn_implementation = architecture["attention"]
    model: nn.Module = cls(config)
    return model


@contextmanager
def _no_bars() -> Iterator[None]:
    """No progress bars of transformers inside; they come back afterwards."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _layer(path: str) -> int | None:
    return next((int(part) for part in path.split(".") if part.isdigit()), None)


def _expected(net: Network) -> dict[str, tuple[int, ...]]:
    return {
        alias: net.shape(net.tensors[name].dims)
        for alias, name in net.source.aliases.items()
        if name in net.source.parameters
    }


def _built(cls: type[Any], config: Any) -> nn.Module | None:
    """The model that a configuration builds, without values; None where the class refuses it."""
    try:
        read = type(config).from_dict(json.loads(config.to_json_string(use_diff=False)))
        read._attn_implementation = config._attn_implementation
        with torch.device("meta"):
            model: nn.Module = cls(read)
    except Exception:  # Whatever a class refuses, it is not a configuration for it.
        return None
    return model


def _shapes(model: nn.Module | None) -> dict[str, tuple[int, ...]]:
    """State-dict name → shape of every parameter."""
    named = model.named_parameters(remove_duplicate=False) if model is not None else ()
    return {name: tuple(parameter.shape) for name, parameter in named}


def _same_numbers(built: nn.Module, dense: nn.Module) -> bool:
    """Whether what a class computes from its sizes (a scale of embeddings) stays what it was.

    An ε is left out: it follows the number of units.
    """
    modules = dict(dense.named_modules())
    return all(
        abs(value - vars(modules[path]).get(name, value)) <= 1e-6 * abs(value)
        for path, module in built.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, float) and abs(value) > 1e-3
    )


def _repaired(net: Network, model: Any) -> tuple[Any, dict[str, dict[str, int]]]:
    """A copy of the model's configuration with all repairs in it, and what varies."""
    memo: dict[int, Any] = {}
    config = copy.deepcopy(model.config, memo)
    varied: dict[str, dict[str, int]] = {}
    for found in configs(model, evidence(net)):
        target = memo.get(id(found.of(model)))
        if target is None:
            continue
        for repair in (*found.repairs, *configured_numbers(net, target)):
            setattr(target, repair.field, repair.new)
        varied |= {field: dict(values) for field, values in found.varied.items()}
    return config, varied


def _candidates(net: Network, model: Any) -> Iterator[Any]:
    """The repaired configuration, then those that state a width left to its default."""
    config, varied = _repaired(net, model)
    if varied:
        return
    yield config
    before = net.source.axes
    changed = {axis.size for name, axis in net.axes.items() if before[name].size != axis.size}
    sizes = sorted(changed | {axis.size for axis in net.axes.values()})
    for field in ("n_inner", "head_dim", "intermediate_size", "ffn_dim", "d_kv"):
        if getattr(config, field, 0) is None:
            for value in sizes:
                other = copy.deepcopy(config)
                setattr(other, field, value)
                yield other
