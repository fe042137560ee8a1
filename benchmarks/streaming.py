r"""Time and memory of streamed pruning, against the size of a Llama without training.

    python -m benchmarks.streaming --folder DIR [--shapes 110M 1.1B]

Every run is a fresh process with one thread; the checkpoint is written to the folder first, where
it is not there yet. Memory is what the process takes at most above what it took when all packages
were loaded, beside the bytes of the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.curvature_cost import SHAPE
from benchmarks.pages.records import RECORDS
from benchmarks.scale import resident
from metaprune.results.provenance import versions

SHAPES: dict[str, dict[str, Any]] = {
    "110M": {**SHAPE, "dtype": "float32"},
    "1.1B": {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    },
}
"""Name → configuration of a Llama, and the dtype of its file."""

WAYS: dict[str, dict[str, Any]] = {
    "2:4, one side": {"pattern": "2:4", "sides": 1, "solver": "sparsegpt"},
    "2:4, both sides": {"pattern": "2:4", "solver": "sparsegpt"},
    "50 %, uniform, one side": {
        "target": {"sparsity": 0.5},
        "budget": "uniform",
        "sides": 1,
        "solver": "sparsegpt",
    },
}
"""Label → settings of `metaprune.stream`."""

EXAMPLES, TOKENS, BATCH = 16, 256, 2
WHOLE = "in memory"
HOWS = ("recomputed", "kept", WHOLE)
"""What becomes of activations inside a block, and the same without streaming."""
RECORD = RECORDS / "streaming.jsonl"


def checkpoint(folder: Path, shape: str) -> Path:
    """The folder of a Llama with random weights, written where it is not there."""
    from transformers import LlamaConfig, LlamaForCausalLM

    path = folder / shape
    if not path.is_dir():
        options = dict(SHAPES[shape])
        dtype = getattr(torch, options.pop("dtype"))
        torch.manual_seed(0)
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            LlamaForCausalLM(LlamaConfig(**options)).to(dtype).save_pretrained(path)
        finally:
            torch.set_default_dtype(default)
    return path


def measure(path: Path, output: Path, way: str, how: str) -> dict[str, Any]:
    """Prune once in this process."""
    import accelerate  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    import metaprune
    import metaprune.streaming.run

    torch.set_num_threads(1)
    size = sum(file.stat().st_size for file in path.glob("*.safetensors")) / 2**20
    tokens = torch.randint(0, 32000, (EXAMPLES, TOKENS), generator=torch.Generator().manual_seed(0))
    loaded, started, cpu = resident("VmRSS"), time.perf_counter(), time.process_time()
    if how == WHOLE:
        in_memory(path, output, tokens, WAYS[way])
    else:
        metaprune.stream(path, output, [tokens], batch_size=BATCH, activations=how, **WAYS[way])
    return {
        "checkpoint_mb": round(size, 1),
        "memory_mb": round(resident("VmHWM") - loaded, 1),
        "process_mb": round(resident("VmHWM"), 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "seconds": round(time.perf_counter() - started, 1),
    }


def in_memory(path: Path, output: Path, tokens: torch.Tensor, settings: dict[str, Any]) -> None:
    """The same by `metaprune.prune`: embedding and head dense, every layer solved once."""
    import metaprune
    from training import sources

    options = dict(settings)
    order = {"sides": options.pop("sides", 2), "rounds": 1}
    pruned = metaprune.prune(
        sources.load("transformers", path=str(path)),
        (tokens[:BATCH],),
        calibration=[(part,) for part in tokens.split(BATCH)],
        ignore=["lm_head", "*.embed_tokens"],
        recovery=[{"order": order}],
        metanet=None,
        **options,
    )
    pruned.model.save_pretrained(output)


def main() -> None:
    """Measure what is not recorded yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="of checkpoints and results")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--hows", nargs="+", default=list(HOWS), choices=HOWS)
    parser.add_argument("--output", type=Path, default=RECORD, help="file of the records")
    parser.add_argument("--one", nargs=3, metavar=("SHAPE", "WAY", "HOW"), help="a worker")
    given = parser.parse_args()
    if given.one:
        shape, way, how = given.one
        path, output = checkpoint(given.folder, shape), given.folder / "pruned"
        shutil.rmtree(output, ignore_errors=True)
        print(json.dumps(measure(path, output, way, how)))
        shutil.rmtree(output)
        return
    done = given.output.read_text().splitlines() if given.output.is_file() else []
    known = {tuple(json.loads(line)["run"]) for line in done}
    for run in [(s, w, a) for s in given.shapes for w in given.ways for a in given.hows]:
        if run in known:
            continue
        checkpoint(given.folder, run[0])
        own = [sys.executable, "-m", "benchmarks.streaming", "--folder", str(given.folder)]
        made = subprocess.run([*own, "--one", *run], check=True, stdout=subprocess.PIPE, text=True)
        row = {
            "benchmark": "streaming",
            "run": run,
            "examples": EXAMPLES,
            "tokens": TOKENS,
            "versions": versions(),
            "figures": json.loads(made.stdout.splitlines()[-1]),
        }
        with given.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(row["run"], row["figures"], flush=True)


if __name__ == "__main__":
    main()
