"""How far a network with other weights is from the dense one, and the gradient of that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from graphs.calls.running import undisturbed
from pruners.statistics.calls import function_name
from pruners.statistics.likelihood import class_dimension


class Imitation:
    r"""KL(dense ‖ pruned) over calibration batches, as a function of weights.

        L(w') = mean over examples (and tokens) of Σ_c p_c(x; w) log(p_c(x; w) / p_c(x; w'))

    No labels are needed. The dense predictions are computed once, on construction.

    Args:
        model: the dense model; runs in evaluation mode and is left as it was.
        batches: example inputs (a tuple of arguments, a mapping of keywords, or one tensor); kept.
        class_dim: dimension of the model's scores that runs over classes; None for the one that
            they are read along elsewhere (`pruners.statistics.likelihood.class_dimension`).
        recalibrated: batch norms of the pruned network use the statistics of each batch, as after
            `recovery.recalibrate_batch_norm`: what recalibration mends is not held against the
            weights. The divergence of the dense weights is then small, but not zero.

    Raises:
        ValueError: no batches.
        TypeError: a model whose output holds no scores (a tensor, a tuple that starts with one, or
            an object with `logits`).
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Any],
        class_dim: int | None = None,
        recalibrated: bool = False,
    ) -> None:
        self.model = model
        self.batches = list(batches)
        self.class_dim = class_dim
        self._norms: Callable[[], AbstractContextManager] = (
            BatchNorms if recalibrated else nullcontext
        )
        if not self.batches:
            raise ValueError("imitation needs at least one calibration batch (got none)")
        with undisturbed(model), torch.no_grad():
            self._dense = [self._log_probabilities({}, batch) for batch in self.batches]
        self._rows = sum(dense.shape[:-1].numel() for dense in self._dense)

    def __call__(self, values: Mapping[str, torch.Tensor]) -> tuple[float, dict[str, torch.Tensor]]:
        """The divergence of the model with these values, and its gradient in each of them.

        Args:
            values: parameter name → value; the others are the dense model's.
        """
        leaves = {name: value.detach().requires_grad_() for name, value in values.items()}
        loss, gradients = 0.0, {name: torch.zeros_like(value) for name, value in leaves.items()}
        with undisturbed(self.model), torch.enable_grad(), self._norms():
            for batch, dense in zip(self.batches, self._dense, strict=True):
                divergence = (dense.exp() * (dense - self._log_probabilities(leaves, batch))).sum()
                part = divergence / self._rows
                found = torch.autograd.grad(part, list(leaves.values()), allow_unused=True)
                for total, gradient in zip(gradients.values(), found, strict=True):
                    if gradient is not None:
                        total += gradient
                loss += part.item()
        return loss, gradients

    def value(self, values: Mapping[str, torch.Tensor]) -> float:
        """The divergence alone, by forward passes; see `__call__`."""
        loss = 0.0
        with undisturbed(self.model), torch.no_grad(), self._norms():
            for batch, dense in zip(self.batches, self._dense, strict=True):
                divergence = (dense.exp() * (dense - self._log_probabilities(values, batch))).sum()
                loss += (divergence / self._rows).item()
        return loss

    def _log_probabilities(self, values: Mapping[str, torch.Tensor], batch: Any) -> torch.Tensor:
        if isinstance(batch, dict):
            output = functional_call(self.model, dict(values), (), batch)
        else:
            arguments = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
            output = functional_call(self.model, dict(values), arguments)
        scores = getattr(output, "logits", output)
        scores = scores[0] if isinstance(scores, tuple) else scores
        if not isinstance(scores, torch.Tensor):
            raise TypeError(
                f"imitation needs a model that returns scores of classes (got "
                f"{type(output).__name__}); wrap it so that it returns the tensor"
            )
        wide = torch.promote_types(scores.dtype, torch.float32)
        along = class_dimension(scores, batch) if self.class_dim is None else self.class_dim
        return scores.to(wide).movedim(along, -1).log_softmax(-1)


class BatchNorms(TorchFunctionMode):
    """Inside this context batch norms use the statistics of their batch and keep none."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Replace the statistics of a batch norm; everything else runs as it is."""
        named = kwargs or {}
        if function_name(function) != "batch_norm":
            return function(*args, **named)
        # The functional form and the operator order their arguments differently.
        order: tuple[str, ...] = (
            ("input", "running_mean", "running_var", "weight", "bias")
            if function is functional.batch_norm
            else ("input", "weight", "bias", "running_mean", "running_var")
        )
        given = dict(zip((*order, "training", "momentum", "eps"), args, strict=False)) | named
        x = given["input"]
        if x.numel() <= x.shape[1]:  # one value a channel has no variance
            return function(*args, **named)
        return functional.batch_norm(
            x, None, None, given.get("weight"), given.get("bias"), training=True, eps=given["eps"]
        )
