"""Text for language models: windows of tokens, each after a beginning-of-sequence token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from training.data.core import Data
from training.data.registry import dataset
from training.data.split import Split, fingerprint, hold_out
from training.data.tasks import IGNORED, LanguageModelling


@dataset("text")
def text(
    *,
    train: str,
    test: str,
    tokenizer: str,
    window: int = 255,
    hub: str | None = None,
    subset: str | None = None,
    column: str = "text",
    train_bytes: int | None = None,
    test_bytes: int | None = None,
    validation: float = 0.05,
    seed: int = 0,
) -> Data:
    """Load text as windows: (T,) token ids, as many targets, the vocabulary as outputs.

    A window holds `window` consecutive tokens of the text; the model reads BOS and all but the
    last of them, and predicts each of them. A tokenizer without BOS predicts all but the first.

    Args:
        train, test: paths of text files; with `hub`, names of splits.
        tokenizer: folder or hub name of a transformers tokenizer.
        window: tokens predicted at once.
        hub, subset, column: a data set on the hub, its configuration, and the column with text.
        train_bytes, test_bytes: use only the first bytes of the text (UTF-8).
        validation: share of the training windows that is held out.
        seed: of the choice of the validation windows.

    Raises:
        FileNotFoundError: if a text file does not exist.
        ValueError: if the text is shorter than two windows.
    """
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(tokenizer)
    fitted = windows(_read(train, hub, subset, column, train_bytes), tokens, window)
    if len(fitted) < 2:
        raise ValueError(f"text {train!r} is shorter than two windows of {window} tokens")
    count = max(1, int(validation * len(fitted)))
    kept, held_out = hold_out(fitted, count, seed)
    tested = windows(_read(test, hub, subset, column, test_bytes), tokens, window)
    splits = (kept, held_out, tested)
    shape, vocabulary = (fitted.inputs.shape[1],), len(tokens)
    return Data(
        "text", *splits, LanguageModelling(vocabulary), shape, vocabulary, fingerprint(splits)
    )


def windows(content: str, tokenizer: Any, window: int) -> Split:
    """Cut a text into windows of `window` tokens; targets of the last one are padded.

    Returns:
        inputs (N, T) and targets (N, T), T = window after a BOS and window - 1 without one.
    """
    # one story or article at a time would add markers between them: the text is one sequence
    encoded = tokenizer.encode(content, add_special_tokens=False, verbose=False)
    ids = torch.tensor(encoded, dtype=torch.int64)
    bytes_per_token = len(content.encode()) / max(1, len(ids))
    count = -(-len(ids) // window)
    targets = torch.full((count * window,), IGNORED)
    targets[: len(ids)] = ids
    targets = targets.view(count, window)
    inputs = targets.clamp_min(0)
    if tokenizer.bos_token_id is None:
        inputs, targets = inputs[:, :-1], targets[:, 1:]
    else:
        start = torch.full((count, 1), tokenizer.bos_token_id)
        inputs = torch.cat([start, inputs[:, :-1]], dim=1)
    return Split(inputs, targets.contiguous(), bytes_per_token=bytes_per_token)


def _read(source: str, hub: str | None, subset: str | None, column: str, limit: int | None) -> str:
    if hub is not None:
        import datasets

        table = datasets.load_dataset(hub, subset, split=source)
        content = "\n\n".join(table[column]).encode()
    elif Path(source).is_file():
        content = Path(source).read_bytes()
    else:
        raise FileNotFoundError(
            f"text file {source!r} does not exist; give a path, or `hub` with a split name"
        )
    return content[:limit].decode(errors="ignore")
