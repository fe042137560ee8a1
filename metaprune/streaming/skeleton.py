"""A model whose weights are there only where and while they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphs.tools.words import first_of
from metaprune.streaming.checkpoint import Checkpoint

FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Dtypes of weights, as safetensors writes them, that hold what a weight is."""


class Skeleton:
    """A transformers model without weights, in evaluation mode, beside the files that have them.

    Every module with parameters of its own reads them before its forward and lets go of them after
    it, unless they are held longer (`filled`). Everything else is the model's own code.

    Args:
        checkpoint: of the model.
        dtype: in which it computes.
        device: on which it computes.
        attention: implementation, `sdpa` or `eager`; None for the one of the class.

    Attributes:
        model: the module; its parameters are on the meta device.
        names: parameter name → name in the checkpoint.

    Raises:
        ValueError: the checkpoint lacks tensors of the class that its configuration names, holds
            others than the class has, or is quantized.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        attention: str | None = None,
    ) -> None:
        self.checkpoint, self.dtype, self.device = checkpoint, dtype, torch.device(device)
        self.model = _without_weights(checkpoint.folder, dtype, attention)
        self.names = _stored(self.model, checkpoint)
        _check_fits(self.model, checkpoint, self.names)
        self._paths = {module: name for name, module in self.model.named_modules()}
        self._held: dict[nn.Module, dict[str, nn.Parameter | None]] = {}
        self._read_buffers()
        for module in self._paths:
            if module._parameters:
                module.register_forward_pre_hook(self._enter)
                module.register_forward_hook(self._leave, always_call=True)

    def stored(self, name: str) -> list[str]:
        """Names in the checkpoint of the parameters inside a module."""
        inside = [kept for own, kept in self.names.items() if own.startswith(f"{name}.")]
        return list(dict.fromkeys(inside))

    @contextmanager
    def filled(self, name: str) -> Iterator[nn.Module]:
        """Inside this context, a module of this name has all of its weights, which may change."""
        module = self.model.get_submodule(name)
        taken = self._take(part for part in module.modules() if part not in self._held)
        try:
            yield module
        finally:
            self._release(taken)

    def _take(self, modules: Iterable[nn.Module]) -> list[nn.Module]:
        """Read the parameters of modules, those of their own alone."""
        taken = list(modules)
        places = [
            (module, key, self.names[f"{path}.{key}" if path else key])
            for module in taken
            for path in (self._paths[module],)
            for key, parameter in module._parameters.items()
            if parameter is not None
        ]
        # Modules that share a weight get one tensor.
        values = {
            stored: nn.Parameter(value.to(self.device, self.dtype), requires_grad=False)
            for stored, value in self.checkpoint.read(dict.fromkeys(p[2] for p in places)).items()
        }
        bad = next((stored for stored, value in values.items() if not value.isfinite().all()), None)
        if bad is not None:
            raise ValueError(
                f'the weights in {str(self.checkpoint.folder)!r} are not finite: "{bad}" holds NaN '
                "or infinity; take a checkpoint whose training did not diverge"
            )
        for module in taken:
            self._held[module] = dict(module._parameters)
        for module, key, stored in places:
            module._parameters[key] = values[stored]
        return taken

    def _release(self, modules: Iterable[nn.Module]) -> None:
        for module in modules:
            module._parameters.update(self._held.pop(module))

    def _enter(self, module: nn.Module, _inputs: Any) -> None:
        if module not in self._held:
            self._take([module])
            module._streamed = True

    def _leave(self, module: nn.Module, _inputs: Any, _output: Any) -> None:
        if vars(module).pop("_streamed", False):
            self._release([module])

    def _read_buffers(self) -> None:
        """Buffers are few and small: those of the checkpoint are read at once."""
        names = [name for name, _ in self.model.named_buffers() if name in self.checkpoint.files]
        for name, value in self.checkpoint.read(names).items():
            self.model.get_buffer(name).copy_(value)
        for module in self.model.modules():
            for key, buffer in module._buffers.items():
                module._buffers[key] = None if buffer is None else buffer.to(self.device)


def _without_weights(folder: Path, dtype: torch.dtype, attention: str | None) -> nn.Module:
    import transformers
    from accelerate import init_empty_weights

    config = transformers.AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    names = list(config.architectures or [])
    cls: Any = getattr(transformers, names[0], None) if names else None
    if cls is None:
        raise ValueError(
            f"{str(folder / 'config.json')!r} names no class of transformers in `architectures` "
            f"(got {names})"
        )
    if getattr(config, "quantization_config", None):
        raise ValueError(
            f"{str(folder)!r} is quantized (quantization_config), and its weights are not those "
            "that are written: stream the checkpoint that it was made from"
        )
    config.use_cache = False
    with init_empty_weights(include_buffers=False):
        model: Any = cls._from_config(config, dtype=dtype, attn_implementation=attention)
    model.tie_weights()
    found: nn.Module = model.eval().requires_grad_(False)
    return found


def _stored(model: Any, checkpoint: Checkpoint) -> dict[str, str]:
    """Parameter name → name in the checkpoint; of tied ones either name will do.

    Raises:
        ValueError: some are not there.
    """
    aliases: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(parameter), []).append(name)
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    found: dict[str, str] = {}
    missing: list[str] = []
    for names in aliases.values():
        known = [
            each for name in names for each in (name, name.removeprefix(prefix), prefix + name)
        ]
        stored = next((name for name in known if name in checkpoint.files), None)
        if stored is None:
            missing.append(names[0])
        else:
            found |= dict.fromkeys(names, stored)
    if missing:
        raise ValueError(
            f"{str(checkpoint.folder)!r} lacks {len(missing)} tensors of {type(model).__name__} "
            f"({first_of(missing)}); checkpoints whose tensors are put together or renamed "
            "when they are loaded (the experts of a mixture, the head of GPT-NeoX) are not "
            "streamed: prune with metaprune.prune"
        )
    return found


def _check_fits(model: nn.Module, checkpoint: Checkpoint, names: Mapping[str, str]) -> None:
    """Refuse tensors that are not those of the class.

    Raises:
        ValueError: one has another shape, or no dtype that training knows.
    """
    held = checkpoint.shapes(set(names.values()))
    for name, stored in names.items():
        shape, dtype = held[stored]
        wanted = tuple(model.get_parameter(name).shape)
        if shape != wanted:
            raise ValueError(
                f"{stored!r} in {str(checkpoint.folder)!r} has shape {shape}, and config.json "
                f"makes it {wanted}: they do not belong together"
            )
        if dtype not in FLOATS:
            raise ValueError(
                f"{stored!r} in {str(checkpoint.folder)!r} is {dtype}, a quantized weight: stream "
                f"a checkpoint in {', '.join(sorted(FLOATS))}"
            )
