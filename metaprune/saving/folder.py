"""Pruned networks on disk: tensors, plan, report, and how to build the module they go into.

    metaprune.load(result.save(folder)) computes what result.model computes

A folder holds `model.safetensors`, `metaprune.json` (how to rebuild), `plan.json`, `report.json`,
`README.md`, the example inputs to replay the plan on the dense architecture, and for models that no
class is known of the exported program. A transformers model whose widths its configuration can say
is written as `save_pretrained` writes it. A folder is data: nothing in it is unpickled or
evaluated, and what it names is looked up in closed tables (docs/security.md).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from graphs import trace
from graphs.build.compare import agree, one_product_more
from graphs.calls.copying import copy_module, working_copy
from graphs.calls.modes import own_modes
from graphs.calls.running import as_inputs, outputs
from graphs.tools.bounds import check_counts, check_size
from graphs.tools.digests import digest, file_digest, tensor_digest
from graphs.tools.documents import FileError, read_json, read_text, regular, told
from graphs.tools.files import (
    read_safetensors,
    read_tensors,
    whole_folder,
    write_tensors,
    write_text,
)
from metaprune.results.dense import Dense, is_transformer
from metaprune.results.history import History, remember
from metaprune.results.masks import recounted
from metaprune.results.pruned import Pruned
from metaprune.saving import transformers as classes
from metaprune.saving.card import card
from metaprune.saving.dtypes import cast as cast_like
from metaprune.saving.dtypes import unsaved
from metaprune.saving.examples import plain, read_example, write_example
from metaprune.saving.programs import read_program, write_program
from metaprune.saving.replay import replayed
from metaprune.saving.shapes import placeholders
from pruners import Plan, PlanError
from training import sources
from training.config import from_mapping
from training.store import load_state, state_of

FORMAT = 1
MODEL, HOW, PLAN, REPORT = "model.safetensors", "metaprune.json", "plan.json", "report.json"
EXAMPLE, CARD = "example.safetensors", "README.md"
PROGRAM, CONSTANTS = "program.json", "program.safetensors"
SAME = 1e-3
"""How far outputs of an opened network may be off in float32, of the largest one."""
Kind = Literal["source", "transformers", "exported"]
OWN = frozenset({"family"})
"""Sources of architectures that run nothing but metaprune's own code."""


@dataclass(frozen=True)
class How:
    """What `metaprune.json` says: how to build the module that the tensors go into.

    Args:
        format: of the folder.
        kind: "source", "transformers" or "exported".
        training: the flag of the module.
        dense: what is remembered of the dense network.
        untrained: parameters that take no gradient.
        masked: parameters whose zeros are masks.
        unsaved: dtypes of buffers that are not saved.
        plain: whether `save_pretrained` wrote it.
        absent: names of empty tensors that stand for parameters of the dense model.
        example: what stands around the tensors of the example inputs; None where they are none
            that can be written.
        operators: that its graph calls and that are in no table.
        tensors: digests of tensors in files that have none themselves.
        files: digests of the other texts that are read.
        digest: of all of this.
    """

    format: int
    kind: Kind
    training: bool
    dense: Dense
    untrained: tuple[str, ...]
    masked: tuple[str, ...]
    unsaved: Mapping[str, str]
    plain: bool = False
    absent: tuple[str, ...] = ()
    example: Mapping[str, Any] | None = None
    operators: tuple[str, ...] = ()
    tensors: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""


@own_modes()
def save(result: Pruned, folder: Path, source: Mapping[str, Any] | None = None) -> Path:
    """See `metaprune.Result.save`."""
    kind, how = _how(result, source)
    result = recounted(result)
    model = result.model
    with whole_folder(folder) as inside:
        if kind == "transformers":
            absent = classes.write(result, inside)
            how |= {"plain": absent is None, "absent": absent or []}
        if how.get("plain"):
            written = read_safetensors(inside / MODEL)[0]
            how["tensors"] = {name: tensor_digest(name, t) for name, t in written.items()}
        else:
            state = state_of(model)
            write_tensors(inside / MODEL, {**state, **placeholders(how.get("absent", ()))})
            if kind == "exported":
                places = (inside / PROGRAM, inside / CONSTANTS)
                how["operators"] = write_program(model, result.example_inputs, *places, state)
        if plain(result.example_inputs):
            how["example"] = write_example(result.example_inputs, inside / EXAMPLE)
        how["untrained"] = [n for n, p in model.named_parameters() if not p.requires_grad]
        how["masked"] = list(result.masks)
        how["unsaved"] = unsaved(model)
        result.plan.save(inside / PLAN)
        write_text(inside / REPORT, json.dumps(result.report, indent=1, ensure_ascii=False) + "\n")
        opened = "plain" if how.get("plain") else kind
        trust = bool(how.get("operators")) or (
            kind == "source" and not _is_own(how["dense"]["architecture"]["source"])
        )
        write_text(inside / CARD, card(result, folder.name, opened, trust))
        how["files"] = {name: file_digest(inside / name) for name in _texts(inside)}
        content = {"format": FORMAT, "kind": kind, "training": model.training, **how}
        write_text(inside / HOW, json.dumps(sealed(content), indent=2) + "\n")
        _check(result, inside)
    return folder


@own_modes()
def load(
    folder: str | os.PathLike[str], *, dense: nn.Module | None = None, trust: bool = False
) -> nn.Module:
    """The pruned network that `Result.save` wrote.

    A folder is data: without `trust` nothing that it names is imported, run or fetched, and nothing
    larger is built than its tensors account for.

    Args:
        folder: what `save` made.
        dense: a model of the architecture that was pruned, in any weights: what was saved as its
            exported graph comes back in this class, if the pruned model had it. Left as it was.
        trust: run the function that the folder may name as the source of its architecture, in a
            package or a file, and operators of other packages that its graph may call; without it
            such a folder is refused.

    Returns:
        The module, in its own class where the folder says how to build that, else the exported
        graph; with the training flag it was saved with, on the CPU.

    Raises:
        FileNotFoundError: something is missing.
        ValueError: something is damaged or does not fit, or asks to be trusted; says what.
    """
    inside = Path(folder)
    how = _read_how(inside)
    _check_files(inside, how)
    tensors = _read_model(inside, how)
    # What does not fit a model that is handed in is no damage.
    with told(inside, classes.AGAIN) if dense is None else nullcontext():
        model = _opened(inside, how, tensors, dense, trust)
    with told(inside, classes.AGAIN):
        untrained = set(how.untrained)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in untrained)
        remember(model, _history(model, inside, how))
        return model.train(how.training)


def _opened(
    inside: Path,
    how: How,
    tensors: Mapping[str, torch.Tensor],
    dense: nn.Module | None,
    trust: bool,
) -> nn.Module:
    """The module with its tensors."""

    def cast(model: nn.Module) -> nn.Module:
        return cast_like(model, tensors, how.unsaved)

    if dense is not None:
        model = cast(_on(cast(copy_module(dense, {})), inside, how))
    elif how.kind == "exported":
        if how.operators and not trust:
            raise FileError(
                f"{str(inside)!r} calls {', '.join(how.operators)}, operators of other packages, "
                "which would be run: import those and load it with trust=True if you know where it "
                "is from, or give the architecture yourself, dense=..."
            )
        beside = inside / CONSTANTS
        others = read_tensors(beside, below=inside)[0] if beside.exists() else {}
        return read_program(inside / PROGRAM, {**others, **tensors}, classes.AGAIN, trust)
    elif how.plain:
        assert how.dense.architecture is not None
        return cast(classes.read(inside, how.dense.architecture, tensors, trust))
    else:
        model = cast(_on(cast(_built(how, inside, tensors, trust)), inside, how))
    load_state(model, tensors, str(inside / MODEL))
    return model


def _history(model: nn.Module, inside: Path, how: How) -> History:
    """How a saved network came about; its masks are where its weights are not 0."""
    masks = {name: model.get_parameter(name).detach() != 0 for name in how.masked}
    return History(how.dense, Plan.load(inside / PLAN), masks)


def _how(result: Pruned, source: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Kind of rebuild, and what it needs beside tensors and plan."""
    architecture = result.dense.architecture if source is None else {"source": dict(source)}
    how = {"dense": replace(result.dense, architecture=architecture).to_json()}
    if architecture is None or not plain(result.example_inputs):
        return "exported", how
    if "source" in architecture:
        return "source", how
    return "transformers" if is_transformer(result.model) else "exported", how


def _built(how: How, inside: Path, tensors: Mapping[str, torch.Tensor], trust: bool) -> nn.Module:
    """The dense architecture; its values do not matter.

    Raises:
        FileError: the folder names what would be run or read for it, and is not trusted.
    """
    architecture = how.dense.architecture
    if architecture is None:
        raise ValueError("it does not say of what architecture it is")
    if how.kind == "transformers":
        return classes.build(architecture, tensors, trust).eval()
    source = dict(architecture["source"])
    if trust:
        return sources.load(**source)
    if not _is_own(source):
        raise FileError(
            f"{str(inside)!r} says that its architecture comes from {source}, which would be "
            "run to open it: load it with trust=True if you know where it is from, or give "
            "the architecture yourself, dense=..."
        )
    check_counts(source, tensors)
    check_size(lambda: sources.load(**source), tensors)
    return sources.load(**source)


def _is_own(source: Mapping[str, Any]) -> bool:
    """Whether a source runs nothing but metaprune's own code, and reads no other file."""
    return source.get("source") in OWN and source.get("path") is None


def _on(dense: nn.Module, inside: Path, how: How) -> nn.Module:
    """The plan of a folder carried out on a dense model."""
    if how.example is None:
        raise ValueError("it has no example inputs to replay its plan on; load it without `dense`")
    example = read_example(inside / EXAMPLE, how.example)
    plan = Plan.load(inside / PLAN)
    try:
        return replayed(trace(dense, example), plan, example)
    except PlanError as error:
        raise PlanError(f"{str(inside / PLAN)!r}: {error}") from error


def _read_how(inside: Path) -> How:
    path = inside / HOW
    if not path.exists() and not path.is_symlink():
        raise FileNotFoundError(
            f"{str(inside)!r} holds no pruned network (there is no {HOW} in it)"
        )
    content = read_json(path, classes.AGAIN, below=inside)
    with told(path, classes.AGAIN):
        if not isinstance(content, dict) or not isinstance(content.get("format"), int):
            raise ValueError("it does not say of what format it is")
        if content["format"] != FORMAT:
            raise FileError(
                f"{str(path)!r} is of format {content['format']}, and this version of metaprune "
                f"reads format {FORMAT}: use the version that wrote it"
            )
        found = from_mapping(How, content)
        if content != sealed(content):
            raise ValueError("it is not what was written (its digest differs)")
    return found


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """What `metaprune.json` says, with the digest of it."""
    rest = {key: value for key, value in content.items() if key != "digest"}
    return {**rest, "digest": digest(json.dumps(rest, sort_keys=True))}


def _texts(inside: Path) -> list[str]:
    """The files that are read beside the tensors and `metaprune.json`."""
    there = (PLAN, PROGRAM, classes.CONFIG)
    return [name for name in there if (inside / name).is_file()]


def _check_files(inside: Path, how: How) -> None:
    """Refuse texts that are not those that were written.

    Raises:
        FileError: one is; names it.
    """
    for name in (PLAN, PLAN.replace(".json", ".moves.safetensors")):
        if name == PLAN or (inside / name).exists():
            regular(inside / name, below=inside)
    for name in (PLAN, PROGRAM, classes.CONFIG):
        path = inside / name
        if name not in how.files:
            continue
        read_text(path, classes.AGAIN, below=inside)
        if file_digest(path) != how.files[name]:
            raise FileError(
                f"{str(path)!r} is not what was saved with the tensors (its digest differs): "
                "edit a copy of it outside of the folder, or save the result again"
            )


def _read_model(inside: Path, how: How) -> dict[str, torch.Tensor]:
    """The tensors of a folder.

    Raises:
        FileError: one is not the one that was written; names it.
    """
    tensors = read_tensors(inside / MODEL, below=inside)[0]
    for name, wanted in how.tensors.items():
        if name not in tensors or tensor_digest(name, tensors[name]) != wanted:
            raise FileError(
                f'{str(inside / MODEL)!r} is damaged: the tensor "{name}" is not the one that was '
                f"written (its digest differs); {classes.AGAIN}"
            )
    return {n: tensor for n, tensor in tensors.items() if n not in how.absent or tensor.numel()}


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
