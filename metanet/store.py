"""Metanetworks by name, saved and loaded as safetensors with their configuration inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

from graphs.tools.bounds import check_size
from graphs.tools.documents import FileError, parse_json, reason
from graphs.tools.files import read_safetensors, write_safetensors
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
    write_safetensors(path, tensors, {"metanetwork": json.dumps(meta.config)})


def load(path: str | Path) -> nn.Module:
    """The metanetwork in a file written by `save`, on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is corrupt, is not a metanetwork, or does not fit its configuration.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no metanetwork at '{path}'")
    tensors, metadata = read_safetensors(path)
    if "metanetwork" not in metadata:
        raise ValueError(
            f"'{path}' holds no metanetwork: its metadata lack the key 'metanetwork' "
            f"(got {sorted(metadata)}); give a file written by metanet.save"
        )
    try:
        config = parse_json(metadata["metanetwork"])
        if not isinstance(config, dict):
            raise ValueError("it is no object")
        check_size(lambda: build(config), tensors, times=1)
        meta = build(config)
        first = next(iter(tensors.values()), None)
        meta = meta if first is None else meta.to(first.dtype)
        meta.load_state_dict(tensors)
    except Exception as error:  # whatever sizes and names make a constructor raise
        raise FileError(
            f"the weights in '{path}' do not fit its configuration "
            f"{metadata['metanetwork']:.400}: {reason(error)}; fetch or train it again"
        ) from error
    return meta.eval()
