"""How far a network with other weights is from the dense one, and the gradient of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from pruners.statistics.running import undisturbed


class Imitation:
    r"""KL(dense ‖ pruned) over calibration batches, as a function of weights.

        L(w') = mean over examples (and tokens) of Σ_c p_c(x; w) log(p_c(x; w) / p_c(x; w'))

    No labels are needed. The dense predictions are computed once, on construction.

    Args:
        model: the dense model; runs in evaluation mode and is left as it was.
        batches: example inputs (a tuple of arguments, a mapping of keywords, or one tensor); kept.
        class_dim: dimension of the model's scores that runs over classes.

    Raises:
        ValueError: no batches.
        TypeError: a model whose output holds no scores (a tensor, a tuple that starts with one, or
            an object with `logits`).
    """

    def __init__(self, model: nn.Module, batches: Iterable[Any], class_dim: int = -1) -> None:
        self.model = model
        self.batches = list(batches)
        self.class_dim = class_dim
        if not self.batches:
            raise ValueError("imitation needs at least one calibration batch (got none)")
        with undisturbed(model), torch.no_grad():
            self._dense = [self._log_probabilities({}, batch) for batch in self.batches]
        self._rows = sum(dense.numel() // dense.shape[class_dim] for dense in self._dense)

    def __call__(self, values: Mapping[str, torch.Tensor]) -> tuple[float, dict[str, torch.Tensor]]:
        """The divergence of the model with these values, and its gradient in each of them.

        Args:
            values: parameter name → value; the others are the dense model's.
        """
        leaves = {name: value.detach().requires_grad_() for name, value in values.items()}
        loss, gradients = 0.0, {name: torch.zeros_like(value) for name, value in leaves.items()}
        with undisturbed(self.model), torch.enable_grad():
            for batch, dense in zip(self.batches, self._dense, strict=True):
                divergence = (dense.exp() * (dense - self._log_probabilities(leaves, batch))).sum()
                part = divergence / self._rows
                found = torch.autograd.grad(part, list(leaves.values()), allow_unused=True)
                for total, gradient in zip(gradients.values(), found, strict=True):
                    if gradient is not None:
                        total += gradient
                loss += part.item()
        return loss, gradients

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
        return scores.to(wide).log_softmax(self.class_dim)
