"""The tensors of models and optimisers as flat mappings, and checkpoints that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from graphs.tools.documents import told
from graphs.tools.files import read_tensors, write_tensors

CHECKPOINT = "checkpoint.safetensors"
"""Name of a run's checkpoint in its folder."""
AGAIN = "remove it, and the run starts again"


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the state dictionary with tied tensors once, under their first name."""
    seen: dict[tuple[Any, ...], str] = {}
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and seen.setdefault(place, name) != name:
            continue
        state[name] = tensor
    return state


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy a state dictionary into a model; tied tensors may be given once.

    Args:
        model: changed in place; left as it was if the state does not fit.
        state: as from `state_of`.
        source: where the state comes from, for the error.

    Raises:
        ValueError: naming the missing, unexpected and wrongly shaped keys.
    """
    own, needed = model.state_dict(), state_of(model)
    # batch-norm counters are younger than many checkpoints, and only count
    missing = [n for n in needed if n not in state and not n.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if missing or unexpected or shapes:
        parts = [
            f"{title}: {', '.join(names[:6])}{f' and {len(names) - 6} more' * (len(names) > 6)}"
            for title, names in (
                ("missing", missing),
                ("unexpected", unexpected),
                ("wrong shape", shapes),
            )
            if names
        ]
        raise ValueError(
            f"checkpoint {source!r} does not fit {type(model).__name__}; {'; '.join(parts)}. "
            f"Build the architecture that the checkpoint was made from."
        )
    model.load_state_dict(dict(state), strict=False)


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state as a flat mapping `index.name` -> tensor."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value
        for index, entries in state.items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` returned; the settings stay those of the optimiser."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def write_run(
    path: Path,
    parts: Mapping[str, Mapping[str, Tensor]],
    run: Mapping[str, Any],
    **record: Any,
) -> None:
    """Write a checkpoint of a run, whole or not at all.

    Args:
        path: of the file.
        parts: what the tensors are of ("model", "optimizer", "best") → name → tensor.
        run: what must agree for the checkpoint to belong to a run; plain JSON values.
        record: what else is known; plain JSON values.
    """
    tensors = {f"{part}/{name}": t for part, state in parts.items() for name, t in state.items()}
    write_tensors(path, tensors, {"run": dict(run), **record})


def read_run(
    path: Path, run: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read what `write_run` wrote: the parts (those without tensors are left out), the record.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or of another run.
    """
    tensors, record = read_tensors(path)
    if not isinstance(record, dict) or record.pop("run", None) != dict(run):
        raise ValueError(
            f"checkpoint {str(path)!r} is of a run with other settings, weights or data; "
            f"remove it or choose another folder"
        )
    parts: dict[str, dict[str, Tensor]] = {}
    with told(path, AGAIN):
        for key, tensor in tensors.items():
            part, name = key.split("/", 1)
            parts.setdefault(part, {})[name] = tensor
    return parts, record
