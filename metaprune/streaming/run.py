"""A checkpoint pruned block by block: each step is kept on disk, and a rerun goes on from there."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from graphs.calls.running import quiet_evaluation
from graphs.tools.digests import digest, tensors_digest
from graphs.tools.documents import read_json, read_text
from graphs.tools.files import read_tensors, refuse_filled, write_tensors, write_text
from metaprune.calibration.reading import Forward
from metaprune.ignoring import spared
from metaprune.results.provenance import machine, versions
from metaprune.streaming.backward import Pulled, pull, pull_back
from metaprune.streaming.budget import divided
from metaprune.streaming.chain import Chain, Entry
from metaprune.streaming.checkpoint import Checkpoint, assemble, write_shard
from metaprune.streaming.evaluation import divergence_between
from metaprune.streaming.settings import StreamSettings
from metaprune.streaming.skeleton import Skeleton
from metaprune.streaming.solving import curves_of, network_of, put, solved, takes_masks
from metaprune.streaming.states import States
from pruners.curves import Curve
from pruners.curves.trial import left_out
from pruners.recovery.solve_in_order import Ask
from pruners.solvers.matrix import matrix_shape
from pruners.statistics.borders import Border
from pruners.statistics.likelihood import Likelihood
from training.recovery.blocks import BlockError, Example, counted_places, imitate_block

BEGUN, REPORT = "begun.json", "stream.json"
END = "<end>"
"""Name of the curvature where a block ends, beside those of its weights."""
GRADIENT, DENSE, PRUNED = "gradient", "dense", "pruned"
"""Kinds of states where blocks begin: gradients, and hidden states of either network."""

AGAIN = "delete the folder of the interrupted run, and it starts again"


class Run:
    """One checkpoint on its way.

    Args:
        checkpoint: that is pruned; only read.
        output: folder that is made.
        batches: inputs of the model, `batch_size` examples each.
        settings: how.
        device: on which blocks compute.
        tell: hears of every step: its name, how many are done, and of how many.

    Raises:
        FileExistsError: the output is there already.
        ValueError: what an interrupted run left was begun with something else; no weight takes
            masks; or steps are asked, and there is no batch to judge them.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        output: Path,
        batches: Sequence[Any],
        settings: StreamSettings,
        device: str | torch.device,
        tell: Callable[[str, int, int], None],
    ) -> None:
        refuse_filled(output)
        self.output, self.settings, self.tell = output, settings, tell
        self.batches, self.checkpoint = list(batches), checkpoint
        self.judges = self._judges()
        self.work = output.with_name(f".{output.name}.part")
        self.device = torch.device(device)
        self.states = States(self.work / "states", self.device)
        begun = self._begun()
        self.skeleton = Skeleton(checkpoint, getattr(torch, settings.dtype), self.device)
        self.batches = [_moved(batch, self.device) for batch in self._read(self.batches)]
        self.chain = Chain(self.skeleton, self.batches[0])
        self.ignored = spared(self.skeleton.model, settings.ignore)
        self._check_masks()
        self.begun = digest(begun)
        write_text(self.work / BEGUN, begun)

    @property
    def blocks(self) -> int:
        """How many there are."""
        return len(self.chain.names)

    @cached_property
    def entries(self) -> list[Entry]:
        """Every batch before the first block."""
        return [self.chain.enter(batch) for batch in self.batches]

    def go(self) -> None:
        """All that is not done yet.

        Raises:
            RuntimeError: another process is at it.
        """
        try:
            with FileLock(self.work / "lock", timeout=0):
                if self.settings.curved:
                    self._forward()
                    self._backward()
                shares = self._divided()
                self._solve(shares)
                self._finish(shares)
        except Timeout:
            raise RuntimeError(
                f"another process is pruning to {str(self.output)!r}; wait for it, or end it"
            ) from None

    def _read(self, batches: Sequence[Any]) -> list[Any]:
        """Batches as arguments of the model.

        Raises:
            ValueError: what are inputs cannot be told; names the batch.
        """
        forward, found = Forward.of(self.skeleton.model), []
        for number, batch in enumerate(batches, start=1):
            try:  # tuples are arguments; lists are what loaders give, inputs and labels
                found.append(forward.read(batch).inputs if isinstance(batch, list) else batch)
            except ValueError as error:
                raise ValueError(f"batch {number} of the calibration: {error}") from error
        return found

    def _begun(self) -> str:
        """All that the result depends on, which an interrupted run must have had too."""
        files = sorted(set(self.checkpoint.files.values()) | {"config.json"})
        stats = [(self.checkpoint.folder / name).stat() for name in files]
        told = json.dumps(
            {
                "settings": self.settings.to_json(),
                "files": [(n, s.st_size, s.st_mtime_ns) for n, s in zip(files, stats, strict=True)],
                "data": _digest(self.batches),
                "versions": versions(),
            },
            sort_keys=True,
        )
        mark = self.work / BEGUN
        if mark.is_file() and read_text(mark, AGAIN) != told:
            raise ValueError(
                f"{str(self.work)!r} holds an interrupted run with other settings, data, weights "
                "or versions; give those again to continue it, or delete that folder"
            )
        return told

    def _check_masks(self) -> None:
        """Refuse a pattern that fits no weight, before anything is written.

        Raises:
            ValueError: all are ignored, or none has such a shape.
        """
        entry = self.chain.enter(self.batches[0])
        for i, name in enumerate(self.chain.names):
            with self.skeleton.filled(name) as block:
                inputs = self.chain.inputs(i, entry.hidden, entry)
                if takes_masks(
                    network_of(block, inputs, self._ignored_in(name)), self.settings.mask
                ):
                    return
        raise ValueError(
            f"no weight inside the blocks takes masks of pattern {self.settings.mask}: all are "
            "ignored, or none has a shape that it divides"
        )

    def _forward(self) -> None:
        """Hidden states of the dense network where blocks begin and the last one ends."""
        if not self.states.has(DENSE, 0):
            self.states.keep(DENSE, 0, [entry.hidden for entry in self.entries])
        for i in range(self.blocks):
            if not self.states.has(DENSE, i + 1):
                with self.skeleton.filled(self.chain.names[i]) as block:
                    self.states.keep(DENSE, i + 1, self._through(block, i, DENSE))
            self.tell("hidden states", i + 1, self.blocks)

    def _backward(self) -> None:
        """Curvature of the weights of every block, the last one first."""
        mark = self.work / "pulled.json"
        if not mark.is_file():
            asked = Likelihood(seed=self.settings.seed)
            last = self.states.get(DENSE, self.blocks)
            pulled = pull(self.chain, self.batches, last, asked)
            self.states.keep(GRADIENT, self.blocks, pulled.gradients)
            write_text(mark, json.dumps({"draws": pulled.draws, "count": pulled.count}))
        told = read_json(mark, AGAIN)
        for i in reversed(range(self.blocks)):
            if not self._curvature(i).is_file():
                pulled = Pulled(self.states.get(GRADIENT, i + 1), **told)
                with self.skeleton.filled(self.chain.names[i]) as block:
                    names = [name for name, p in block.named_parameters() if p.ndim > 1]
                    hidden = self.states.get(DENSE, i)
                    found, before = pull_back(self.chain, i, names, hidden, self.entries, pulled)
                if self.settings.imitate is not None and (end := pulled.curvature()) is not None:
                    found[END] = end
                self.states.keep(GRADIENT, i, before.gradients)
                write_tensors(self._curvature(i), found)
            self.states.drop(GRADIENT, i + 1)
            self.tell("curvature", self.blocks - i, self.blocks)

    def _divided(self) -> dict[str, float]:
        """Kept share of every weight that takes a mask, by its full name."""
        path = self.work / "shares.json"
        if not path.is_file():
            shapes: dict[str, tuple[int, int]] = {}
            curves: dict[str, Curve] = {}
            for i, name in enumerate(self.chain.names):
                told = self._surveyed(i)
                shapes |= {f"{name}.{w}": tuple(shape) for w, shape in told["shapes"].items()}
                curves |= {f"{name}.{w}": Curve(*map(tuple, c)) for w, c in told["curves"].items()}
                self.tell("what masks cost", i + 1, self.blocks)
            write_text(path, json.dumps(divided(shapes, curves, self.settings)))
        found: dict[str, float] = read_json(path, AGAIN)
        return found

    def _surveyed(self, i: int) -> dict[str, Any]:
        """Shapes and curves of the weights of a block that take masks."""
        path, name = self.work / f"survey-{i:05d}.json", self.chain.names[i]
        settings = self.settings
        if not path.is_file():
            with self.skeleton.filled(name) as block:
                inputs = self.chain.inputs(i, self.entries[0].hidden, self.entries[0])
                net = network_of(block, inputs, self._ignored_in(name))
                names = takes_masks(net, settings.mask)
                curves: dict[str, Curve] = {}
                if settings.rule == "expected-loss" and names:
                    batches = self._inputs(i, self.states.get(DENSE, i))
                    curvature = self._curved(i)
                    curves = curves_of(
                        net, block, batches, curvature, names, settings.mask, settings.solver
                    )
            told = {
                "shapes": {weight: matrix_shape(net, weight) for weight in names},
                "curves": {weight: (curve.kept, curve.losses) for weight, curve in curves.items()},
            }
            write_text(path, json.dumps(told))
        found: dict[str, Any] = read_json(path, AGAIN)
        return found

    def _solve(self, shares: Mapping[str, float]) -> None:
        """Masks and weights of every block, and what the pruned blocks hand on."""
        first = next((i for i in range(self.blocks, 0, -1) if self.states.has(PRUNED, i)), 0)
        if not first:
            for kind in (DENSE, PRUNED):
                self.states.keep(kind, 0, [entry.hidden for entry in self.entries])
        for i in range(first, self.blocks):
            self._solve_block(i, shares)
            gc.collect()  # graphs refer to themselves, and to the weights of their block
            self.states.drop(PRUNED, i)
            if not self.settings.curved:
                self.states.drop(DENSE, i)
            self.tell("blocks pruned", i + 1, self.blocks)

    def _solve_block(self, i: int, shares: Mapping[str, float]) -> None:
        started, name, settings = perf_counter(), self.chain.names[i], self.settings
        inside = f"{name}."
        dense, pruned = (self._inputs(i, self.states.get(kind, i)) for kind in (DENSE, PRUNED))
        curvature = self._curved(i) if settings.curved else {}
        with self.skeleton.filled(name) as block:
            if not self.states.has(DENSE, i + 1):
                self.states.keep(DENSE, i + 1, self._through(block, i, DENSE))
            net = network_of(block, pruned[0], self._ignored_in(name))
            asks = {
                weight.removeprefix(inside): Ask(share, settings.mask.at(share))
                for weight, share in shares.items()
                if weight.startswith(inside) and share < 1
            }
            used = curvature if settings.sides == 2 else {}
            again = settings.activations == "recomputed"
            found = solved(net, block, asks, settings.solver, used, dense, pruned, again=again)
            stored = self.checkpoint.read(self.skeleton.stored(name))
            dtypes = {w: stored[self.skeleton.names[inside + w]].dtype for w in found.values}
            put(block, found.values, dtypes)
            told: dict[str, Any] = {"errors": found.errors, "notes": found.notes}
            if settings.imitate is not None:
                told["imitated"] = self._imitated(i, block, pruned, found.masks, curvature)
                moved = dict(block.named_parameters())
                put(block, moved, {w: stored[self.skeleton.names[inside + w]].dtype for w in moved})
            values = {
                self.skeleton.names[inside + w]: value.detach().clone()
                for w, value in block.named_parameters()
            }
            shard = {key: values.get(key, was).to(was.dtype) for key, was in stored.items()}
            handed_on = self._through(block, i, PRUNED)
        told["zeros"] = {w: int((~mask).sum()) for w, mask in found.masks.items()}
        told["seconds"] = round(perf_counter() - started, 2)
        write_shard(self.work / self._shard(i), shard)
        write_text(self._told(i), json.dumps(told))
        self.states.keep(PRUNED, i + 1, handed_on)

    def _imitated(
        self,
        i: int,
        block: nn.Module,
        pruned: Sequence[Mapping[str, Any]],
        masks: Mapping[str, Tensor],
        curvature: Mapping[str, Tensor],
    ) -> tuple[float, float]:
        """Steps on a block; its relative error on batches left out, before and after."""
        settings = self.settings.imitate
        assert settings is not None
        wanted = self.states.get(DENSE, i + 1)
        met = [
            Example((), dict(given), ends, counted_places(batch, ends))
            for given, ends, batch in zip(pruned, wanted, self.batches, strict=True)
        ]
        learning = [one for n, one in enumerate(met) if n not in self.judges]
        judging = [met[n] for n in self.judges]
        border = Border(self.chain.names[i], 1, -1, curvature.get(END))
        error = BlockError(border, settings.curved)
        with quiet_evaluation(block):
            return imitate_block(block, error, learning, judging, masks, settings)

    def _judges(self) -> list[int]:
        """Which batches judge the steps on blocks; none where there are no steps."""
        settings = self.settings.imitate
        if settings is None:
            return []
        judging = left_out(range(len(self.batches)), settings.held_out)[1]
        if not judging:
            raise ValueError(
                "imitate needs at least two batches, of which one judges; give more examples, or a "
                "smaller batch_size"
            )
        return judging

    def _finish(self, shares: Mapping[str, float]) -> None:
        """The tensors outside of blocks, the index, the report; then the folder gets its name."""
        folder = self.work / "result"
        folder.mkdir(exist_ok=True)
        for i in range(self.blocks):
            if (self.work / self._shard(i)).is_file():
                os.replace(self.work / self._shard(i), folder / self._shard(i))
        shards = {
            self._shard(i): self.skeleton.stored(name) for i, name in enumerate(self.chain.names)
        }
        assemble(self.checkpoint, folder, shards, self._shard(self.blocks))
        write_text(folder / REPORT, json.dumps(self._report(shares), indent=2))
        os.replace(folder, self.output)
        shutil.rmtree(self.work)

    def _report(self, shares: Mapping[str, float]) -> dict[str, Any]:
        blocks = [read_json(self._told(i), AGAIN) for i in range(self.blocks)]
        zeros = {
            f"{name}.{weight}": count
            for name, told in zip(self.chain.names, blocks, strict=True)
            for weight, count in told["zeros"].items()
        }
        sizes = {name: self.skeleton.model.get_parameter(name).numel() for name in shares}
        return {
            "model": type(self.skeleton.model).__name__,
            "settings": self.settings.to_json(),
            "sparsity": sum(zeros.values()) / sum(sizes.values()),
            "weights": sum(sizes.values()),
            "parameters": sum(p.numel() for p in self.skeleton.model.parameters()),
            "divergence": divergence_between(
                self.chain,
                self.batches,
                *(self.states.get(kind, self.blocks) for kind in (DENSE, PRUNED)),
            ),
            "shares": dict(shares),
            "blocks": dict(zip(self.chain.names, blocks, strict=True)),
            "examples": sum(len(entry.hidden) for entry in self.entries),
            "begun": self.begun,
            "versions": versions(),
            "machine": machine(),
        }

    def _through(self, block: nn.Module, i: int, kind: str) -> list[Tensor]:
        """What a block hands on, of every batch."""
        with quiet_evaluation(block), torch.no_grad():
            return [block(**given) for given in self._inputs(i, self.states.get(kind, i))]

    def _inputs(self, i: int, hidden: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Keyword arguments of a block, for every batch."""
        return [
            self.chain.inputs(i, each, entry)
            for each, entry in zip(hidden, self.entries, strict=True)
        ]

    def _ignored_in(self, block: str) -> list[str]:
        inside = f"{block}."
        return [name.removeprefix(inside) for name in self.ignored if name.startswith(inside)]

    def _curved(self, i: int) -> dict[str, Tensor]:
        """Curvature of the weights of a block, and where it ends."""
        found, _ = read_tensors(self._curvature(i))
        return {name: value.to(self.device) for name, value in found.items()}

    def _curvature(self, i: int) -> Path:
        return self.work / f"curvature-{i:05d}.safetensors"

    def _told(self, i: int) -> Path:
        return self.work / f"block-{i:05d}.json"

    def _shard(self, i: int) -> str:
        return f"model-{i + 1:05d}-of-{self.blocks + 1:05d}.safetensors"


def _digest(batches: Sequence[Any]) -> str:
    leaves, _ = pytree.tree_flatten_with_path(list(batches))
    return tensors_digest(
        (pytree.keystr(path), leaf) for path, leaf in leaves if isinstance(leaf, Tensor)
    )


def _moved(batch: Any, device: torch.device) -> Any:
    return pytree.tree_map_only(Tensor, lambda leaf: leaf.to(device), batch)
