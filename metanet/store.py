"""Metanetworks by name, saved and loaded as safetensors with their configuration inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from graphs.tools.files import whole_file
from graphs.tools.registry import unknown
from metanet.registry import METANETWORKS


def build(config: Mapping[str, Any]) -> nn.Module:
    """A metanetwork from its configuration.

    Args:
        config: `name` (one of `METANETWORKS`) and keyword arguments of that class.

    Raises:
        ValueError: an unknown name or an unknown key.

    Example:
        >>> build({"name": "streaming", "hidden": 16}).config["hidden"]
        16
    """
    options = dict(config)
    if "name" not in options:
        raise ValueError(f"a metanetwork needs a 'name', one of {', '.join(METANETWORKS)}")
    name = str(options.pop("name"))
    make = METANETWORKS.find(name)
    known = list(signature(make).parameters)
    for option in options:
        if option not in known:
            raise ValueError(unknown(f'option of the metanetwork "{name}"', option, known))
    return make(**options)


def save(meta: nn.Module, path: str | Path) -> None:
    """Write `meta` to one safetensors file; a failure leaves no half-written file behind.

    Args:
        meta: a metanetwork (it has a `config`).
        path: of the file; its folder must exist.
    """
    tensors = {name: t.detach().cpu().contiguous() for name, t in meta.state_dict().items()}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata={"metanetwork": json.dumps(meta.config)})


def load(path: str | Path) -> nn.Module:
    """The metanetwork in a file written by `save`, on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is corrupt, is not a metanetwork, or does not fit its configuration.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no metanetwork at '{path}'")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"'{path}' is not a readable safetensors file ({error}): fetch or train it again"
        ) from error
    if "metanetwork" not in metadata:
        raise ValueError(
            f"'{path}' holds no metanetwork: its metadata lack the key 'metanetwork' "
            f"(got {sorted(metadata)}); give a file written by metanet.save"
        )
    try:
        meta = build(json.loads(metadata["metanetwork"]))
        first = next(iter(tensors.values()), None)
        meta = meta if first is None else meta.to(first.dtype)
        meta.load_state_dict(tensors)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"the weights in '{path}' do not fit its configuration "
            f"{metadata['metanetwork']}: {error}"
        ) from error
    return meta.eval()
