"""What of a network is trained: all of it, its vectors alone, or updates of low rank beside them.

After Zimmer et al. 2023, "PERP: Rethinking the Prune-Retrain Paradigm in the Era of LLMs" (arXiv
2312.15230): after a pruning, biases and norms recover most of what all weights do, and updates of
low rank inside of the mask the rest (their MaskLoRA), at a part of the memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

Part: TypeAlias = Literal["all", "vectors", "low-rank"]
"""Everything; what has one dimension (biases, norm scales); or that beside low-rank updates."""


class LowRankUpdate(nn.Module):
    """W ↦ W + M ∘ (B A), B of zeros at first, so that training starts at W.

    Args:
        weight: W, (out, ...).
        mask: M, bool, of the shape of W; None for all ones.
        rank: of the update.
        generator: of A.
    """

    def __init__(
        self, weight: Tensor, mask: Tensor | None, rank: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        rank = min(rank, rows, columns)
        drawn = torch.randn(rank, columns, generator=generator) * columns**-0.5
        self.down = nn.Parameter(drawn.to(weight))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its update."""
        update = (self.up @ self.down).reshape(weight.shape)
        mask = self.get_buffer("mask") if self.mask is not None else None
        return weight + (update if mask is None else update * mask)


@contextmanager
def partly_trained(
    model: nn.Module,
    part: Part,
    masks: Mapping[str, Tensor],
    rank: int = 8,
    seed: int = 0,
) -> Iterator[Mapping[str, Tensor]]:
    """Inside this context only a part of a model learns; updates are merged on leaving.

    Weights that several modules share, and rows that are looked up (embeddings), get no update of
    low rank.

    Args:
        model: changed in place.
        part: that learns.
        masks: parameter name → bool, which merged weights keep.
        rank: of the updates.
        seed: of their first values.

    Yields:
        The masks that an update of the parameters by themselves could break.

    Raises:
        ValueError: nothing of the model is such a part.
    """
    if part == "all":
        yield masks
        return
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    order = {module: list(module._parameters) for module in model.modules()}
    adapted: list[tuple[nn.Module, str]] = []
    try:
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.requires_grad and parameter.ndim <= 1)
        if part == "low-rank":
            adapted = _adapted(model, masks, wanted, rank, seed)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ValueError(
                f"{type(model).__name__} has no vectors that may be trained (biases, norms); train "
                "all of it, or updates of low rank"
            )
        yield {}
    finally:
        for module, name in adapted:
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        for module in {module for module, _ in adapted}:
            for key in order[module]:  # what is registered again comes last, and optimizers count
                module._parameters[key] = module._parameters.pop(key)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted[name])


def _adapted(
    model: nn.Module,
    masks: Mapping[str, Tensor],
    wanted: Mapping[str, bool],
    rank: int,
    seed: int,
) -> list[tuple[nn.Module, str]]:
    """Put updates on the weights of a model; where they are."""
    held = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    generator = torch.Generator().manual_seed(seed)
    found = []
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Embedding):
            continue
        for key, weight in list(module.named_parameters(recurse=False)):
            name = f"{path}.{key}" if path else key
            if weight.ndim < 2 or held[id(weight)] > 1 or not wanted[name]:
                continue
            update = LowRankUpdate(weight.detach(), masks.get(name), rank, generator)
            parametrize.register_parametrization(module, key, update, unsafe=True)
            found.append((module, key))
    return found
