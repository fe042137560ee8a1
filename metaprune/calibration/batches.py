"""Calibration: a few batches, and what they mean to a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils._pytree import tree_flatten, tree_leaves

from graphs.calls.running import as_inputs, outputs
from graphs.tools.digests import digest, tensors_digest
from graphs.tools.words import counted
from training.data.core import Data

Loss: TypeAlias = Callable[[nn.Module, Any], torch.Tensor]


def itself(batch: Any) -> Any:
    """A batch that is the model's input already."""
    return batch


@dataclass(frozen=True)
class Calibration:
    """Batches that statistics are taken from.

    Args:
        batches: each what `inputs` and `loss` take.
        inputs: batch → arguments of the model: a tuple, a dict of keywords, or one tensor.
        loss: (model, batch) → scalar loss; None where there are no targets, and then nothing that
            needs a gradient is measured.
    """

    batches: Sequence[Any]
    inputs: Callable[[Any], Any] = itself
    loss: Loss | None = None

    @property
    def model_inputs(self) -> list[Any]:
        """The batches as arguments of the model."""
        return [self.inputs(batch) for batch in self.batches]

    @property
    def digest(self) -> str:
        """Digest of the model inputs: whether two calibrations measure on the same ones."""
        leaves = tree_leaves(self.model_inputs)
        tensors = [(str(i), v) for i, v in enumerate(leaves) if isinstance(v, torch.Tensor)]
        plain = [repr(v) for v in leaves if isinstance(v, str | int | float | bool | None)]
        return digest(tensors_digest(tensors), *plain)

    def fitting(self, model: nn.Module, example_inputs: Any) -> Calibration:
        """The same calibration, once it is known that the model runs on it.

        Every batch must be what its forward takes, and the first one of every form is run: of its
        nesting, dtypes, and sizes but for the number of examples. The model is left as it was.

        Args:
            model: that is measured.
            example_inputs: that it was traced with.

        Raises:
            ValueError: a batch does not fit, with what a batch has to be.
        """
        if any(parameter.is_meta for parameter in model.parameters()):
            return self  # what needs weights says so itself
        takes, ran = signature(model.forward), set[Any]()
        for number, batch in enumerate(self.batches, start=1):
            try:
                args, kwargs = as_inputs(self.inputs(batch))
                takes.bind(*args, **kwargs)
                form = _form((args, kwargs))
                if form not in ran:
                    found = outputs(model, (args, kwargs))
                    if isinstance(found, Exception):
                        raise found
                    ran.add(form)
            except Exception as error:
                raise ValueError(_misfit(number, error, example_inputs, model)) from error
        return self

    @classmethod
    def from_data(
        cls, data: Data, examples: int = 512, batch_size: int = 128, seed: int = 0
    ) -> Calibration:
        """Training examples of a data set, with the loss of its task.

        Args:
            data: what to take them from.
            examples: how many.
            batch_size: examples a batch.
            seed: of the choice.

        Raises:
            ValueError: no examples, or none a batch.
        """
        for name, number in (("examples", examples), ("batch_size", batch_size)):
            if number < 1:
                raise ValueError(f"calibration.{name} must be at least 1 (got {number})")

        def loss(model: nn.Module, batch: Any) -> torch.Tensor:
            return data.task.loss(data.task.forward(model, batch), batch)

        return cls(data.calibration(examples, batch_size, seed), data.task.example_inputs, loss)


def _misfit(number: int, error: Exception, example_inputs: Any, model: nn.Module) -> str:
    """What to say of a batch that a model does not run on."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    args, kwargs = as_inputs(example_inputs)
    wanted = counted(len(args), "argument") if args else f"keywords {', '.join(kwargs)}"
    said = f"the model does not run on batch {number} of the calibration: {reason}. "
    own, given = _kinds(model.parameters()), _kinds(tree_leaves((args, kwargs)))
    if len(own) == 1 and given and own != given:
        cast = f"pass dtype={own.pop()} to cast what is handed in"
        return f"{said}Its inputs are {', '.join(map(str, given))}: {cast}"
    return (
        f"{said}A batch is what the forward takes, like the example inputs ({wanted}), and labels "
        "after it. Of batches with more in them, say what is the input: "
        "metaprune.Calibration(batches, inputs=lambda batch: (batch[0],))"
    )


def _kinds(leaves: Iterable[Any]) -> set[torch.dtype]:
    """The floating-point dtypes of tensors."""
    return {t.dtype for t in leaves if isinstance(t, torch.Tensor) and t.is_floating_point()}


def _form(inputs: Any) -> Any:
    """What two batches have in common that a model runs on in the same way."""
    leaves, structure = tree_flatten(inputs)
    sizes = [(v.dtype, v.shape[1:]) if isinstance(v, torch.Tensor) else type(v) for v in leaves]
    return structure, tuple(sizes)


def any_examples(batch: Any) -> bool:
    """Whether a batch holds numbers, or no tensors that could tell."""
    tensors = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)]
    return not tensors or any(leaf.numel() for leaf in tensors)
