"""Curvature block by block: a backward pass that keeps what runs between blocks, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphs.calls.running import quiet_evaluation
from metaprune.streaming.chain import Chain, Entry
from pruners.statistics.calls import LinearCalls, Watched
from pruners.statistics.curvature import LARGEST, OutputGradients
from pruners.statistics.likelihood import (
    TEMPERATURES,
    Carried,
    Likelihood,
    choice,
    direction,
    generators_of,
    scores_of,
)
from pruners.statistics.moments import gram


@dataclass(frozen=True)
class Pulled:
    """Gradients where the last block ends.

    Args:
        gradients: of every draw of every batch, the draws of a batch in a row.
        draws: of a batch.
        count: predictions, times draws.
    """

    gradients: list[Tensor]
    draws: int
    count: float

    def curvature(self) -> Tensor | None:
        """Σ g gᵀ / predictions over features, (features, features); None where those are many."""
        if self.gradients[0].shape[-1] > LARGEST:
            return None
        total = gram(self.gradients[0].flatten(0, -2).float())
        for each in self.gradients[1:]:
            total += gram(each.flatten(0, -2).float())
        return total / self.count


def pull(chain: Chain, batches: Sequence[Any], last: Sequence[Tensor], asked: Likelihood) -> Pulled:
    """Gradients of the likelihood where the last block ends; scores of one batch live at a time.

    Args:
        chain: of the model.
        batches: inputs of the model.
        last: what the last block hands on, of every batch.
        asked: temperature, draws and seed; no loss of one's own.
    """
    tried = TEMPERATURES if asked.temperature is None else (asked.temperature,)
    carried = {temperature: Carried() for temperature in tried}
    with torch.no_grad():
        for batch, hidden in zip(batches, last, strict=True):
            scores, counted = scores_of(chain.leave(batch, hidden), batch)
            for temperature, one in carried.items():
                one.add(scores, counted, temperature)
    chosen, draws = choice(asked, carried)
    gradients = []
    for batch, hidden in zip(batches, last, strict=True):
        leaf = hidden.detach().requires_grad_()
        with torch.enable_grad():
            scores, counted = scores_of(chain.leave(batch, leaf), batch)
        for draw in range(draws):
            generators = generators_of(batch, counted, f"{asked.seed} {draw}")
            drawn = direction(scores.detach(), counted, chosen, generators)
            (found,) = torch.autograd.grad(scores, leaf, drawn, retain_graph=draw + 1 < draws)
            gradients.append(found)
    return Pulled(gradients, draws, float(carried[chosen].count * draws))


def pull_back(
    chain: Chain,
    index: int,
    weights: Sequence[str],
    hidden: Sequence[Tensor],
    entries: Sequence[Entry],
    pulled: Pulled,
) -> tuple[dict[str, Tensor], Pulled]:
    """Curvature of the weights of a block, and the gradients where it begins.

    Args:
        chain: its block is filled.
        index: of the block.
        weights: names of parameters inside the block.
        hidden, entries: what goes into the block, of every batch.
        pulled: gradients where it ends.

    Returns:
        Weight name → Σ g gᵀ / predictions (`pruners.statistics.curvature`), and the gradients.
    """
    block = chain.skeleton.model.get_submodule(chain.names[index])
    watch = OutputGradients(Watched(block, weights))
    gradients = []
    for number, (state, entry) in enumerate(zip(hidden, entries, strict=True)):
        leaf = state.detach().requires_grad_()
        with quiet_evaluation(block), torch.enable_grad(), LinearCalls(after=watch.after):
            output = block(**chain.inputs(index, leaf, entry))
        for draw in range(pulled.draws):
            given = pulled.gradients[number * pulled.draws + draw]
            last = draw + 1 == pulled.draws
            (found,) = torch.autograd.grad(output, leaf, given, retain_graph=not last)
            gradients.append(found)
    curvature = {name: total / pulled.count for name, total in watch.sums.items()}
    return curvature, Pulled(gradients, pulled.draws, pulled.count)
