"""What every source needs: to load a checkpoint into what a builder returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graphs.tools.files import read_tensors
from training.store import load_state


def with_checkpoint(model: nn.Module, path: str | None) -> nn.Module:
    """The model with the weights of a checkpoint; as it is for None.

    Raises:
        ValueError, FileNotFoundError: no such checkpoint, or it does not fit.
    """
    if path is not None:
        load_state(model, read_checkpoint(path), str(path))
    return model


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
