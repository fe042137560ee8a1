"""Pruned networks on disk: tensors, plan, report, and how to build the module they go into.

    metaprune.load(result.save(folder)) computes what result.model computes

A folder holds `model.safetensors`, `metaprune.json` (how to rebuild), `plan.json`, `report.json`,
`README.md`, the example inputs to replay the plan on the dense architecture, and for models that no
class is known of the exported program. A transformers model whose widths its configuration can say
is written as `save_pretrained` writes it. Nothing in a folder is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphs import trace
from graphs.build.compare import agree, one_product_more
from graphs.calls.copying import copy_module, working_copy
from graphs.calls.running import as_inputs, outputs
from graphs.tools.files import read_tensors, whole_folder, write_tensors, write_text
from metaprune.results.dense import Dense, is_transformer
from metaprune.results.history import History, remember
from metaprune.results.masks import recounted
from metaprune.results.pruned import Pruned
from metaprune.saving import transformers as classes
from metaprune.saving.archive import load_program, save_program
from metaprune.saving.card import card
from metaprune.saving.dtypes import cast as cast_like
from metaprune.saving.dtypes import unsaved
from metaprune.saving.examples import plain, read_example, write_example
from metaprune.saving.replay import replayed
from pruners import Plan
from training import sources
from training.store import load_state, state_of

FORMAT = 1
MODEL, HOW, PLAN, REPORT = "model.safetensors", "metaprune.json", "plan.json", "report.json"
EXAMPLE, PROGRAM, CARD = "example.safetensors", "program.pt2", "README.md"
SAME = 1e-3
"""How far outputs of an opened network may be off in float32, of the largest one."""
KINDS = ("source", "transformers", "exported")
OWN = frozenset({"family"})
"""Sources of architectures that run nothing but metaprune's own code."""


def save(result: Pruned, folder: Path, source: Mapping[str, Any] | None = None) -> Path:
    """See `metaprune.Result.save`."""
    kind, how = _how(result, source)
    result = recounted(result)
    model = result.model
    with whole_folder(folder) as inside:
        if kind == "transformers" and not any(step.rank for step in result.plan.steps):
            how["plain"] = classes.write(result, inside)
        if not how.get("plain"):
            write_tensors(inside / MODEL, state_of(model))
        if kind == "exported":
            save_program(model, result.example_inputs, inside / PROGRAM)
        if plain(result.example_inputs):
            how["example"] = write_example(result.example_inputs, inside / EXAMPLE)
        how["untrained"] = [n for n, p in model.named_parameters() if not p.requires_grad]
        how["masked"] = list(result.masks)
        how["unsaved"] = unsaved(model)
        content = {"format": FORMAT, "kind": kind, "training": model.training, **how}
        write_text(inside / HOW, json.dumps(content, indent=2) + "\n")
        result.plan.save(inside / PLAN)
        write_text(inside / REPORT, json.dumps(result.report, indent=1, ensure_ascii=False) + "\n")
        opened = "plain" if how.get("plain") else kind
        trust = kind == "source" and not _is_own(how["dense"]["architecture"]["source"])
        write_text(inside / CARD, card(result, folder.name, opened, trust))
        _check(result, inside)
    return folder


def load(folder: str | Path, *, dense: nn.Module | None = None, trust: bool = False) -> nn.Module:
    """The pruned network that `Result.save` wrote.

    Args:
        folder: what `save` made.
        dense: a model of the architecture that was pruned, in any weights: what was saved as its
            exported graph comes back in this class, if the pruned model had it. Left as it was.
        trust: run the function that the folder may name as the source of its architecture, in a
            package or a file; without it such a folder is refused.

    Returns:
        The module, in its own class where the folder says how to build that, else the exported
        graph; with the training flag it was saved with, on the CPU.

    Raises:
        FileNotFoundError: something is missing.
        ValueError: something is damaged or does not fit, or asks to be trusted; says what.
    """
    inside = Path(folder)
    how = _read_how(inside)
    tensors = read_tensors(inside / MODEL)[0]

    def cast(model: nn.Module) -> nn.Module:
        return cast_like(model, tensors, how.get("unsaved", {}))

    if dense is not None:
        model = cast(_on(cast(copy_module(dense, {})), inside, how))
    elif how["kind"] == "exported":
        model = load_program(inside / PROGRAM)
        # A program also holds what the module does not save: tables that its forward reads.
        tensors = {**state_of(model), **tensors}
    elif how.get("plain"):
        model = cast(classes.read(inside, how["dense"]["architecture"]))
    else:
        model = cast(_on(cast(_built(how, inside, trust)), inside, how))
    if not how.get("plain") or dense is not None:
        load_state(model, tensors, str(inside / MODEL))
    untrained = set(how.get("untrained", ()))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in untrained)
    remember(model, _history(model, inside, how))
    return model.train(bool(how.get("training", False)))


def _history(model: nn.Module, inside: Path, how: Mapping[str, Any]) -> History:
    """How a saved network came about; its masks are where its weights are not 0."""
    masks = {name: model.get_parameter(name).detach() != 0 for name in how["masked"]}
    return History(Dense(**how["dense"]), Plan.load(inside / PLAN), masks)


def _how(result: Pruned, source: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Kind of rebuild, and what it needs beside tensors and plan."""
    architecture = result.dense.architecture if source is None else {"source": dict(source)}
    how = {"dense": replace(result.dense, architecture=architecture).to_json()}
    if architecture is None or not plain(result.example_inputs):
        return "exported", how
    if "source" in architecture:
        return "source", how
    return "transformers" if is_transformer(result.model) else "exported", how


def _built(how: Mapping[str, Any], inside: Path, trust: bool) -> nn.Module:
    """The dense architecture; its values do not matter.

    Raises:
        ValueError: the folder names what would be run or read for it, and is not trusted.
    """
    architecture = how["dense"]["architecture"]
    if how["kind"] == "source":
        source = dict(architecture["source"])
        if not trust and not _is_own(source):
            raise ValueError(
                f"{str(inside)!r} says that its architecture comes from {source}, which would be "
                "run to open it: load it with trust=True if you know where it is from, or give "
                "the architecture yourself, dense=..."
            )
        return sources.load(**source)
    return classes.build(architecture).eval()


def _is_own(source: Mapping[str, Any]) -> bool:
    """Whether a source runs nothing but metaprune's own code, and reads no other file."""
    return source.get("source") in OWN and source.get("path") is None


def _on(dense: nn.Module, inside: Path, how: Mapping[str, Any]) -> nn.Module:
    """The plan of a folder carried out on a dense model."""
    if "example" not in how:
        raise ValueError(
            f"{str(inside)!r} has no example inputs to replay its plan on; load it without `dense`"
        )
    example = read_example(inside / EXAMPLE, how["example"])
    return replayed(trace(dense, example), Plan.load(inside / PLAN), example)


def _read_how(inside: Path) -> dict[str, Any]:
    path = inside / HOW
    if not path.is_file():
        raise FileNotFoundError(
            f"{str(inside)!r} holds no pruned network (there is no {HOW} in it)"
        )
    try:
        how = json.loads(path.read_text(encoding="utf-8"))
        known = how["format"] == FORMAT and how["kind"] in KINDS
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}); save the result again") from error
    if not known:
        raise ValueError(f"{str(path)!r} was written by a newer version of metaprune; update it")
    return how


def _kernels(dtype: torch.dtype) -> float:
    """How far outputs may be off: other places in memory take other kernels, which round anew."""
    return max(SAME, one_product_more(dtype))


def _check(result: Pruned, inside: Path) -> None:
    """Open what was written and compare it with the model.

    Raises:
        ValueError: they differ.
    """
    inputs = as_inputs(result.example_inputs)
    found, expected = (
        outputs(load(inside, trust=True), inputs),
        outputs(working_copy(result.model), inputs),
    )
    if not agree(found, expected, tolerance=_kernels):
        raise ValueError(
            "the saved network does not compute what the pruned model computes, so nothing was "
            "written; is `source` the architecture that was pruned?"
        )
