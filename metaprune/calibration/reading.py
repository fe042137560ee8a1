"""Inputs and labels of a batch: inputs are what the forward takes, labels are what is left over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature, signature
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from graphs.tools.words import counted

LABELS = ("labels", "label", "targets", "target", "y")
"""Names that labels go by."""

REMEDY = "say what is the input: metaprune.Calibration(batches, inputs=lambda batch: (batch[0],))"


@dataclass(frozen=True)
class Batch:
    """One batch, read.

    Args:
        inputs: arguments of the model: a tuple, or a dict of keywords.
        labels: what is left over; None where nothing is, or nothing that can be labels.
    """

    inputs: Any
    labels: torch.Tensor | None = None


@dataclass(frozen=True)
class Forward:
    """What the forward of a model takes.

    Args:
        signature: of it.
        names: of all its arguments.
        needed: how many it cannot do without.
        most: how many may be tensors: arguments whose default is another value than None are not.
    """

    signature: Signature
    names: tuple[str, ...]
    needed: int
    most: float

    @classmethod
    def of(cls, model: nn.Module) -> Forward:
        """Read from the signature."""
        found = signature(model.forward)
        takes = found.parameters.values()
        fixed = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        placed = [p for p in takes if p.kind in fixed]
        tensors = [
            p for p in placed if p.default in (None, Parameter.empty) and p.name not in LABELS
        ]
        needed = sum(p.default is Parameter.empty for p in tensors)
        any_number = any(p.kind is Parameter.VAR_POSITIONAL for p in takes)
        most = float("inf") if any_number else max(len(tensors), 1)
        return cls(found, tuple(p.name for p in takes), needed, most)

    def binds(self, inputs: Any) -> bool:
        """Whether a tuple or a mapping of names is arguments of the forward."""
        args = inputs if isinstance(inputs, tuple) else ()
        try:
            self.signature.bind(*args, **({} if args else dict(inputs)))
        except TypeError:
            return False
        return True

    def read(self, batch: Any) -> Batch:
        """A batch as inputs and labels.

        Args:
            batch: a tensor, a mapping of names, or a sequence of which the first are inputs.

        Raises:
            ValueError: what are inputs cannot be told, or they hold no tensor.
        """
        if isinstance(batch, Mapping):
            found = self._named(batch)
        elif isinstance(batch, Sequence) and not isinstance(batch, str):
            found = self._placed(list(batch))
        else:
            found = Batch((batch,))
        if not any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(found.inputs)):
            kinds = sorted({type(leaf).__name__ for leaf in tree_leaves(found.inputs)})
            raise ValueError(
                f"a batch must hold tensors (its inputs are {', '.join(kinds) or 'nothing'}): "
                "tokenise text and turn pictures into tensors first"
            )
        return found

    def _labelled(self, batch: Mapping[str, Any]) -> str | None:
        return next((name for name in LABELS if name in batch), None)

    def _named(self, batch: Mapping[str, Any]) -> Batch:
        label = self._labelled(batch)
        inputs = {k: v for k, v in batch.items() if k in self.names and k != label}
        rest = [key for key in batch if key not in inputs and key != label]
        if inputs:
            spare = batch[rest[0]] if label is None and len(rest) == 1 else None
            labels = spare if label is None else batch[label]
            return Batch(inputs, _as_labels(labels))
        if len(rest) == self.needed:  # a forward that needs nothing does not say what it reads
            labels = None if label is None else _as_labels(batch[label])
            return Batch(tuple(batch[key] for key in rest), labels)
        raise ValueError(
            f"none of the fields {', '.join(batch)} of a batch is an argument of the forward "
            f"({', '.join(self.names)}); rename them, or {REMEDY}"
        )

    def _placed(self, batch: list[Any]) -> Batch:
        first = batch[0] if batch else None
        if isinstance(first, Mapping | tuple | list) and len(batch) <= 2:
            inputs = dict(first) if isinstance(first, Mapping) else tuple(first)
            return Batch(inputs, _as_labels(batch[1]) if len(batch) == 2 else None)
        needed = max(self.needed, 1)
        spare = len(batch) - needed
        if spare <= 0:
            return Batch(tuple(batch))
        certain = self.most == needed or (spare == 1 and _numbers(batch[-1]))
        if certain:
            labels = batch[needed] if spare == 1 else None
            return Batch(tuple(batch[:needed]), _as_labels(labels))
        optional = list(self.names)[needed : needed + spare]
        raise ValueError(
            f"a batch holds {counted(len(batch), 'tensor')}, and the forward needs {needed} "
            f"and may take {', '.join(optional) or 'any number'}: give a dict of keywords, or "
            f"{REMEDY}"
        )


def _as_labels(value: Any) -> torch.Tensor | None:
    return value if isinstance(value, torch.Tensor) else None


def _numbers(value: Any) -> bool:
    """Whether it is one whole number an example, as labels of classes are."""
    return isinstance(value, torch.Tensor) and value.ndim == 1 and not value.is_floating_point()
