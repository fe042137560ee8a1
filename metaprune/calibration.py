"""Calibration: a few batches, and what they mean to a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

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

        Every batch must be what its forward takes, and the first one with examples is run; the
        model is left as it was.

        Args:
            model: that is measured.
            example_inputs: that it was traced with.

        Raises:
            ValueError: a batch does not fit, with what a batch has to be.
        """
        if any(parameter.is_meta for parameter in model.parameters()):
            return self  # what needs weights says so itself
        takes, ran = signature(model.forward), False
        for number, batch in enumerate(self.batches, start=1):
            try:
                args, kwargs = as_inputs(self.inputs(batch))
                takes.bind(*args, **kwargs)
                if not ran and _any_examples((args, kwargs)):
                    found = outputs(model, (args, kwargs))
                    if isinstance(found, Exception):
                        raise found
                    ran = True
            except Exception as error:
                raise ValueError(_misfit(number, error, example_inputs)) from error
        return self

    @classmethod
    def of(cls, given: Calibration | Iterable[Any] | None) -> Calibration | None:
        """A calibration as it is, batches of model inputs wrapped; None stays None.

        Raises:
            ValueError: no batches, or no examples in them.
        """
        if given is None or isinstance(given, Calibration):
            found = given
        elif isinstance(given, torch.Tensor | str) or not isinstance(given, Iterable):
            raise ValueError(
                "calibration takes batches of model inputs, such as [(images,), (more,)], or a "
                f"Calibration (got a {type(given).__name__}); put a single batch into a list"
            )
        else:
            found = cls(list(given))
        if found is not None and not found.batches:
            raise ValueError(
                "calibration needs at least one batch (got none); pass None to do without"
            )
        if found is not None and not any(map(_any_examples, found.batches)):
            raise ValueError(
                "calibration needs at least one example (all of its batches are empty); pass None "
                "to do without"
            )
        return found

    @classmethod
    def choose(
        cls, given: Calibration | Iterable[Any] | None, data: Data | None
    ) -> Calibration | None:
        """What is given, else batches of the data, else None.

        Raises:
            ValueError: the data are no data set.
        """
        if data is not None and not isinstance(data, Data):
            raise ValueError(
                f"data takes a data set, training.data.load(...) (got a {type(data).__name__})"
            )
        found = cls.of(given)
        return cls.from_data(data) if found is None and data is not None else found

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


def _misfit(number: int, error: Exception, example_inputs: Any) -> str:
    """What to say of a batch that a model does not run on."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    args, kwargs = as_inputs(example_inputs)
    wanted = counted(len(args), "argument") if args else f"keywords {', '.join(kwargs)}"
    return (
        f"the model does not run on batch {number} of the calibration: {reason}. A batch is what "
        f"the forward takes, without labels, like the example inputs ({wanted}). Of batches with "
        "more in them, say what is the input: "
        "metaprune.Calibration(batches, inputs=lambda batch: (batch[0],))"
    )


def _any_examples(batch: Any) -> bool:
    """Whether a batch holds numbers, or no tensors that could tell."""
    tensors = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)]
    return not tensors or any(leaf.numel() for leaf in tensors)
