"""Budgets of ranks: which rank every factored matrix keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pruners.budgets.problems.limits import Limit, limits
from pruners.budgets.problems.ranks import RankProblem
from pruners.budgets.problems.spectrum import Spectrum
from pruners.budgets.registry import checked, dividing
from pruners.solvers.matrix import matrix_shape, out_dims
from pruners.targets import Target

if TYPE_CHECKING:
    from graphs import Network


def allocate_ranks(
    name: str | Mapping[str, float],
    net: Network,
    weights: Iterable[str],
    target: Target | Mapping[str, object],
    *,
    statistics: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    **evidence: Any,
) -> dict[str, int]:
    """Rank of every weight, so that the network costs at most what is asked, and just so.

    Args:
        name: a registered rule, or kept shares by name or glob pattern (rule "manual").
        net: the dense network.
        weights: names of those that may be factored.
        target: what the network may cost.
        statistics: weight name → `hessian` and `samples` of its inputs, for the best approximations
            of the outputs; without, of the weights.
        evidence: what the rule measures with, and its options.

    Returns:
        Weight name → rank, at least 1; weights that are cheaper dense are left out.

    Raises:
        UnreachableTargetError: before any work, with the reachable range.
        ValueError: unknown rule, evidence that is missing or unknown, or no weights.
    """
    if isinstance(name, Mapping):
        name, evidence = "manual", {"values": name, **evidence}
    checked(name, "ranks", evidence)
    asked = rank_limits(net, weights, target)
    names = list(asked.names)
    sides, known_inputs = out_dims(net, names), statistics or {}
    spectra = {n: Spectrum.of(net.tensors[n].value, sides[n], known_inputs.get(n)) for n in names}
    problem = RankProblem(spectra, asked.limits)
    return problem.ranks(dividing(name, "ranks")(problem, **evidence))


class RankLimits(NamedTuple):
    """The weights that low rank makes smaller, and what they may cost together."""

    names: tuple[str, ...]
    limits: tuple[Limit, ...]


def rank_limits(
    net: Network, weights: Iterable[str], target: Target | Mapping[str, object]
) -> RankLimits:
    """What a target leaves for ranks; looks at shapes alone.

    Raises:
        UnreachableTargetError: not even rank 1 everywhere meets the target; with the range.
        ValueError: no weight is large enough.
    """
    listed = list(weights)
    names = tuple(n for n in listed if _saves(net, n))
    if not names:
        raise ValueError("nothing to factor: no weight is large enough for low rank to save")
    fewest = torch.tensor([sum(matrix_shape(net, n)) for n in names], dtype=torch.float64)
    return RankLimits(names, tuple(limits(net, Target.parse(target), names, fewest, listed)))


def _saves(net: Network, name: str) -> bool:
    """Whether rank 1 stores fewer numbers than the weight."""
    rows, columns = matrix_shape(net, name)
    return rows + columns < rows * columns
