"""Budget rules for ranks: which rank every factored matrix keeps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch

from pruners.budgets.problems.limits import Limit, limits
from pruners.budgets.problems.problem import Choice, Loss
from pruners.budgets.problems.ranks import RankProblem
from pruners.budgets.problems.spectrum import Spectrum
from pruners.budgets.rules.manual import assigned
from pruners.budgets.rules.price import STEPS, equalise
from pruners.budgets.rules.search import EVALUATIONS, best_choice
from pruners.sides import matrix_shape, out_dims
from pruners.targets import Target

if TYPE_CHECKING:
    from graphs import Network

# A rule: (problem, options by keyword) → levels of every dial, from `problem.cut` or `realise`.
RankRule = Callable[..., Choice]
AnyRule = TypeVar("AnyRule", bound=RankRule)

RANK_ALLOCATORS: dict[str, RankRule] = {}

RATE = 0.25
"""First η of the rule "price": smaller than for masks, because a rank more is a larger step."""

MEASURING = ("price", "search")
"""Rules that read the loss on calibration data."""


def rank_allocator(name: str) -> Callable[[AnyRule], AnyRule]:
    """Register a rule (problem, **options) → levels under a name."""

    def register(rule: AnyRule) -> AnyRule:
        if name in RANK_ALLOCATORS:
            raise ValueError(f'a budget rule for ranks "{name}" is already registered')
        RANK_ALLOCATORS[name] = rule
        return rule

    return register


def allocate_ranks(
    name: str | Mapping[str, float],
    net: Network,
    weights: Iterable[str],
    target: Target | Mapping[str, object],
    *,
    statistics: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    loss: Loss | None = None,
    **options: Any,
) -> dict[str, int]:
    """Rank of every weight, so that the network costs at most what is asked, and just so.

    Args:
        name: a registered rule, or kept shares by name or glob pattern (rule "manual").
        net: the dense network.
        weights: names of those that may be factored.
        target: what the network may cost.
        statistics: weight name → `hessian` and `samples` of its inputs, for the best approximations
            of the outputs; without, of the weights.
        loss: values → (loss, gradients), for rules that measure.
        options: of the rule.

    Returns:
        Weight name → rank, at least 1; weights that are cheaper dense are left out.

    Raises:
        UnreachableTargetError: before any work, with the reachable range.
        ValueError: an unknown rule or option, a rule that measures without a loss, or no weights.
    """
    if isinstance(name, Mapping):
        name, options = "manual", {"values": name, **options}
    if name not in RANK_ALLOCATORS:
        raise ValueError(
            f'unknown budget "{name}" for ranks: expected one of {", ".join(RANK_ALLOCATORS)}'
        )
    known = list(inspect.signature(RANK_ALLOCATORS[name]).parameters)[1:]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f'budget "{name}" does not read "{unknown[0]}"; leave it out')
    if name in MEASURING and loss is None:
        raise ValueError(
            f'budget "{name}" is measured on calibration data; provide calibration batches or '
            "choose a rule that reads the weights alone"
        )
    asked = rank_limits(net, weights, target)
    names = list(asked.names)
    sides, known_inputs = out_dims(net, names), statistics or {}
    spectra = {n: Spectrum.of(net.tensors[n].value, sides[n], known_inputs.get(n)) for n in names}
    problem = RankProblem(spectra, asked.limits, loss)
    return problem.ranks(RANK_ALLOCATORS[name](problem, **options))


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
    names = tuple(n for n in weights if _saves(net, n))
    if not names:
        raise ValueError("nothing to factor: no weight is large enough for low rank to save")
    fewest = torch.tensor([sum(matrix_shape(net, n)) for n in names], dtype=torch.float64)
    return RankLimits(names, tuple(limits(net, Target.parse(target), names, fewest)))


@rank_allocator("uniform")
def uniform_ranks(problem: RankProblem) -> Choice:
    """Every matrix stores the same share of its numbers."""
    return problem.cut(lambda share: share * problem.sizes / problem.step, 0.0, 1.0)


@rank_allocator("global")
def global_ranks(problem: RankProblem) -> Choice:
    r"""One threshold over what a stored number catches: Σ relative output errors at its least.

    A direction with the share e of its layer's output energy is worth e / (cost of m + n numbers).
    Spectra fall, so the best choice under one limit is a threshold.
    """
    costs = problem.cost.clamp_min(1e-30).tolist()
    worth = [s.worth() / c for s, c in zip(problem.spectra.values(), costs, strict=True)]
    listed = torch.cat(worth).sort(descending=True).values

    def at(place: float) -> torch.Tensor:
        threshold = listed[min(int(place), len(listed) - 1)]
        return torch.tensor([int((w >= threshold).sum()) for w in worth], dtype=torch.float64)

    def following(levels: torch.Tensor) -> torch.Tensor:
        pairs = zip(worth, levels.long().tolist(), strict=True)
        return torch.stack([w[min(n, len(w) - 1)] for w, n in pairs])

    def path(place: float) -> torch.Tensor:
        return torch.ones(len(worth), dtype=torch.float64) if place < 0 else at(place)

    return problem.cut(path, -1.0, float(len(listed)), order=following)


@rank_allocator("manual")
def manual_ranks(
    problem: RankProblem, *, values: Mapping[str, float] = MappingProxyType({})
) -> Choice:
    """The shares of stored numbers that are given; what is not named shares the rest evenly.

    Args:
        problem: the budget.
        values: share by weight name or glob pattern; 1 leaves a matrix dense.

    Raises:
        ValueError: a name that matches nothing, a share outside 0 to 1, or shares over the target.
    """
    given = assigned(values, problem.dials, "weight")
    for name, share in given.items():
        if not 0 <= share <= 1:
            raise ValueError(f'kept share of "{name}" must be from 0 to 1 (got {share})')
    fixed = torch.tensor([name in given for name in problem.dials])
    shares = torch.tensor([given.get(n, 0.0) for n in problem.dials], dtype=torch.float64)
    asked = torch.where(shares >= 1, problem.most + 1, shares * problem.sizes / problem.step)

    def at(share: float) -> torch.Tensor:
        return torch.where(fixed, asked, share * problem.sizes / problem.step)

    return problem.cut(at, 0.0, 1.0, free=~fixed)


@rank_allocator("price")
def price_ranks(problem: RankProblem, *, steps: int = STEPS, rate: float = RATE) -> Choice:
    """Equal marginal price over ranks (`pruners.budgets.rules.price.equalise`), from the rule
    "global".

    Args:
        problem: the budget.
        steps: backward passes that move the budget; one more judges the last one.
        rate: first η.
    """
    begin = global_ranks(problem)
    choice, value = equalise(problem, problem.logits(begin), steps, rate)
    return choice if value < problem.loss(begin) else begin


@rank_allocator("search")
def search_ranks(
    problem: RankProblem,
    *,
    evaluations: int = EVALUATIONS,
    method: str = "evolution",
    seed: int = 0,
    journal: str | None = None,
) -> Choice:
    """The best of many ranks by the loss, from the rule "global"; never worse than it.

    Args:
        problem: the budget.
        evaluations, method, seed, journal: see `pruners.budgets.rules.search`.
    """
    begin = global_ranks(problem)
    start = problem.logits(begin)
    choice, value = best_choice(problem, start, evaluations, method, seed, journal)
    return choice if value < problem.loss(begin) else begin


def _saves(net: Network, name: str) -> bool:
    """Whether rank 1 stores fewer numbers than the weight."""
    rows, columns = matrix_shape(net, name)
    return rows + columns < rows * columns
