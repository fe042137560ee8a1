r"""Train small networks of other classes than the published ones, to try transformations on.

    python -m benchmarks.small_models --output DIR --cifar10 DIR \
        --train FILE --test FILE --tokenizer DIR

Members of a zoo ({spec.json, model.safetensors, metrics.json} each), so that an interrupted run
continues, and `training.zoo.load_member` opens them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from training.data.registry import load_settings
from training.zoo import Spec, ZooConfig
from training.zoo.builder import train_member

WINDOW = 255
"""Tokens of a text that a language model sees at once."""

TEXT: Mapping[str, Mapping[str, Any]] = {
    "gpt2": {
        "n_embd": 64,
        "n_inner": 256,
        "n_layer": 5,
        "n_head": 8,
        "tie_word_embeddings": False,
        "initializer_range": 0.1,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "resid_pdrop": 0.0,
    },
    "qwen3": {
        "hidden_size": 64,
        "intermediate_size": 172,
        "num_hidden_layers": 5,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "tie_word_embeddings": False,
    },
}
"""Family → options: about as large as the published Llama with 260 thousand weights."""

IMAGES: Mapping[str, Mapping[str, Any]] = {
    "vit": {
        "patch": 4,
        "dim": 64,
        "depth": 4,
        "heads": 4,
        "head_dim": 16,
        "hidden": 192,
        "class_token": False,
    },
}

TEXT_FIT = {
    "epochs": 3,
    "batch_size": 16,
    "optimizer": "adamw",
    "lr": 4e-3,
    "weight_decay": 0.05,
    "clip": 1.0,
}
OVERRIDES: Mapping[str, Mapping[str, Any]] = {"gpt2": {"lr": 2e-3, "epochs": 8}}
"""Family → settings in the place of those of all: learned positions take longer to learn."""

IMAGE_FIT = {
    "epochs": 8,
    "batch_size": 128,
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 0.05,
    "clip": 1.0,
}


def main() -> None:
    """Train what is missing of what is asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the members")
    parser.add_argument("--families", nargs="+", default=[*TEXT, *IMAGES])
    parser.add_argument("--cifar10", help="folder of train-*.parquet and test-*.parquet")
    parser.add_argument("--train", help="text file")
    parser.add_argument("--test", help="text file")
    parser.add_argument("--tokenizer", help="folder or hub name of a transformers tokenizer")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for family in given.families:
        if family in TEXT:
            options, fit = TEXT[family], TEXT_FIT
            source = {
                "name": "text",
                "train": given.train,
                "test": given.test,
                "tokenizer": given.tokenizer,
                "window": WINDOW,
            }
        else:
            options, fit = IMAGES[family], IMAGE_FIT
            source = {"name": "cifar10", "path": given.cifar10}
        data = load_settings(source)
        spec = Spec(family, options, tuple(data.shape), data.outputs, seed=0)
        config = ZooConfig(
            str(given.output),
            data=source,
            fit={**fit, **OVERRIDES.get(family, {}), "progress": True},
        )
        member = train_member(given.output / "train" / family, spec, data, config)
        print(family, member.metrics, flush=True)


if __name__ == "__main__":
    main()
