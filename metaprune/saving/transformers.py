"""Whether a pruned transformers model can be said in its configuration, and by which one.

    config = plain_config(net)      class(config) has the shapes of `net`, or None

A configuration knows one width for all layers, and its class ties some widths to others (a hidden
size that the heads divide). That is tried: the class is built on the meta device, which costs no
memory, and its shapes are compared.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterator, Mapping
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
from graphs.tools.bounds import check_counts, check_size
from graphs.tools.documents import FileError, read_json, told
from graphs.tools.switches import Switch
from metaprune.results.pruned import Pruned
from metaprune.saving.dtypes import cast
from metaprune.saving.shapes import told as told_shapes

CONFIG = "config.json"
AGAIN = "save the result again"
ATTENTIONS = (None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
"""Ways to compute attention that transformers has itself; of others it fetches the code."""
ELSEWHERE = frozenset(
    (
        *("auto_map", "quantization_config", "use_kernels", "custom_pipelines"),
        *("use_pretrained_backbone", "backbone", "use_timm_backbone"),
        *("_attn_implementation", "attn_implementation"),
    )
)
"""Fields by which a configuration names code or weights that are not in the folder."""


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _no_hub() -> Iterator[None]:
    from transformers.utils import hub

    constants = hub.constants  # of huggingface_hub, which transformers brings
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


BARS = Switch(_no_bars)
"""No progress bars of transformers."""
OFFLINE = Switch(_no_hub)
"""No request to the hub: what is in a folder must do."""


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


def write(result: Pruned, folder: Path) -> list[str] | None:
    """Write a transformers model so that plain `from_pretrained` opens it, if it can be said so.

    Where it cannot, because widths differ between layers or layers are factored, a configuration is
    written that opens once metaprune is imported (`metaprune.saving.shapes`).

    Returns:
        None where `from_pretrained` gave a model that computes the same. Else no tensors are
        written, and these parameters of the dense model are to be there as empty ones.
    """
    model: Any = result.model
    held = model.config
    config: Any = held
    if any(step.rank for step in result.plan.steps):
        config = None
    elif any(step.kept or step.dropped for step in result.plan.steps):
        config = plain_config(result.network)
    if config is not None:
        try:
            model.config = config
            with BARS:
                model.save_pretrained(folder)
        finally:
            model.config = held
        how = {"class": type(model).__name__, "attention": held._attn_implementation}
        probe = as_inputs(result.example_inputs)
        opened = None
        with contextlib.suppress(FileError):  # it does not hold all tensors: tied in another way
            opened = read(folder, how, {}, trust=True)
        # Some classes keep some weights in single precision, whatever the others are in.
        if opened is not None:
            same = cast(copy_module(model, {}), dict(opened.named_parameters()), {})
            if agree(outputs(opened, probe), outputs(same, probe)):
                return None
        for path in folder.iterdir():
            path.unlink()
    config = _shaped_config(result)
    if config is None:
        return []
    config.to_json_file(folder / CONFIG)
    if (generation := getattr(model, "generation_config", None)) is not None:
        generation.save_pretrained(folder)
    absent: list[str] = config.quantization_config["absent"]
    return absent


def _shaped_config(result: Pruned) -> Any | None:
    """The dense configuration, with what was cut beside it; None where that cannot be said."""
    architecture, here = result.dense.architecture, result.model.state_dict()
    absent = [name for name in result.dense.weights if name not in here]
    said = told_shapes(result.plan, result.example_inputs, absent)
    if said is None or not said["steps"] or architecture is None:
        return None
    config = _class(architecture["class"]).config_class.from_dict(architecture["config"])
    config.architectures = [architecture["class"]]
    config.quantization_config = said
    return config


def read(
    folder: Path, how: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], trust: bool
) -> nn.Module:
    """The model that `write` wrote, in the class and with the attention that `how` names.

    Args:
        folder: with `config.json` and the tensors.
        how: what `Dense` remembers of the architecture.
        tensors: that are in the folder.
        trust: take what it says unchecked.

    Raises:
        FileError: the configuration and the tensors do not belong together, or it asks for more
            than a class of transformers.
        ValueError: the class does not open it.
    """
    cls = _class(how["class"])
    if not trust:
        content = read_json(folder / CONFIG, AGAIN, below=folder)
        with told(folder / CONFIG, AGAIN):
            _refuse_foreign(how["attention"], content)
            check_counts(content, tensors)
            built = check_size(lambda: _initial(cls, content, how), tensors)
            wanted = sum(p.numel() for p in built.parameters())
            there = sum(tensor.numel() for tensor in tensors.values())
            if wanted > there:
                raise ValueError(f"it makes {wanted:,} numbers, and the tensors hold {there:,}")
        for name in ("generation_config.json", "model.safetensors.index.json"):
            if (folder / name).exists() or (folder / name).is_symlink():
                read_json(folder / name, AGAIN, below=folder)
        if (folder / "adapter_config.json").exists():
            raise FileError(f"{str(folder)!r} holds an adapter, which metaprune did not write")
    with BARS, OFFLINE:
        model, report = cls.from_pretrained(
            folder,
            dtype="auto",
            attn_implementation=how["attention"],
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    lost = [*report["missing_keys"], *report["mismatched_keys"]]
    if lost:
        raise FileError(f"{str(folder)!r} is damaged: it has no tensor {lost[0]!r}; {AGAIN}")
    found: nn.Module = model
    return found


def build(
    architecture: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], trust: bool
) -> nn.Module:
    """A model with random weights, in the class and configuration that `Dense` remembers.

    Args:
        architecture: class, configuration and attention.
        tensors: that a part of it will be filled with.
        trust: take what it says unchecked.

    Raises:
        ValueError: it is no class of transformers, asks for more than that, or is larger than the
            tensors account for.
    """
    cls, content = _class(architecture["class"]), architecture["config"]
    if not trust:
        _refuse_foreign(architecture["attention"], content)
        check_counts(content, tensors)
        check_size(lambda: _initial(cls, content, architecture), tensors)
    model: nn.Module = _initial(cls, content, architecture)
    return model


def _initial(cls: type[Any], content: Mapping[str, Any], architecture: Mapping[str, Any]) -> Any:
    with OFFLINE:
        config = cls.config_class.from_dict(content)
        config._attn_implementation = architecture["attention"]
        return cls(config)


def _class(name: Any) -> type[Any]:
    """The class of transformers of this name.

    Raises:
        ValueError: it is none.
    """
    import transformers

    found = getattr(transformers, name, None) if isinstance(name, str) else None
    if not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
        raise ValueError(f"{name!r:.80} is no class of models of transformers")
    return found


def _refuse_foreign(attention: Any, content: Any) -> None:
    """Refuse a configuration that names code or weights that are not in its folder.

    Raises:
        ValueError: it does.
    """
    found = attention if attention not in ATTENTIONS else _foreign(content)
    if found is not None:
        raise ValueError(
            f"its configuration asks for {found!r:.80}, which is code or weights from elsewhere; "
            "load it with trust=True if you know where it is from"
        )


def _foreign(value: Any) -> str | None:
    """What in a configuration makes transformers look for code or weights elsewhere."""
    if isinstance(value, list):
        return next((found for entry in value if (found := _foreign(entry))), None)
    if not isinstance(value, Mapping):
        return None
    own = next((key for key in value if key in ELSEWHERE and value[key]), None)
    return own or next((found for entry in value.values() if (found := _foreign(entry))), None)


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
