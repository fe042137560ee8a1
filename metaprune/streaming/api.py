"""`metaprune.stream`: masks for a checkpoint that needs not fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from metaprune.streaming.checkpoint import Checkpoint
from metaprune.streaming.run import Run
from metaprune.streaming.settings import StreamSettings
from pruners.statistics import microbatches, without_padding
from training.config import from_mapping


@torch.inference_mode(False)
def stream(
    path: str | Path,
    output: str | Path,
    calibration: Iterable[Any],
    *,
    device: str | torch.device = "cpu",
    tell: Callable[[str, int, int], None] | None = None,
    **options: Any,
) -> Path:
    """Prune a transformers checkpoint by masks, one block in memory at a time.

    Weights are read from safetensors where they are needed; what runs between blocks, curvature and
    finished shards are written to a folder beside the output (its name, with a dot before it and
    `.part` behind). The same call continues an interrupted one, to the same bytes. Embeddings, head
    and norms stay dense. The result is a folder like the one that was read, with its dtypes, and
    `stream.json`, the report.

    Args:
        path: folder with config.json and safetensors.
        output: folder that is made.
        calibration: batches of inputs, or one: tensors of token ids, (examples, tokens), int64;
            tuples of arguments; or mappings of keywords.
        device: on which a block computes.
        tell: hears of every step: what is done, how many, and of how many.
        options: see `metaprune.streaming.settings.StreamSettings`.

    Returns:
        The output.

    Raises:
        FileExistsError: the output is there already.
        FileNotFoundError: no such folder, or a shard is missing.
        NoChainError: the model has no blocks that hand one tensor on to each other.
        ValueError: settings, data or a checkpoint that make no sense; or an interrupted run was
            begun with others.
    """
    settings = from_mapping(StreamSettings, options)
    _ = settings.share  # refused before anything is read
    given = [calibration] if isinstance(calibration, torch.Tensor | Mapping) else calibration
    batches = [
        (batch,) if isinstance(batch, torch.Tensor) else batch
        for batch in microbatches(without_padding(given), settings.batch_size)
    ]
    if not batches:
        raise ValueError("stream needs at least one batch to calibrate on (got none)")
    output, place = Path(output).resolve(), _device(device)
    run = Run(Checkpoint.of(path), output, batches, settings, place, tell or (lambda *_: None))
    run.go()
    return output


def _device(named: str | torch.device) -> torch.device:
    """A device that computes here.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        device = torch.device(named)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device {str(named)!r} does not compute here ({str(error).splitlines()[0]}); "
            "choose another, such as cpu"
        ) from error
    return device
