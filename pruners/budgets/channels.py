"""Budgets of channels and heads: how many units of every axis stay, all cut by one `select`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from graphs.axes.dims import atoms
from pruners.budgets.problems.problem import Loss, finite
from pruners.budgets.problems.widths import WidthProblem, place
from pruners.budgets.rules.manual import assigned
from pruners.budgets.structure import first_use
from pruners.targets import Target
from pruners.units.select import MinUnits, select

if TYPE_CHECKING:
    from graphs import Network

Kept = dict[str, torch.Tensor]
Scores = Mapping[str, torch.Tensor]
Cut = Callable[..., Kept]


@dataclass(frozen=True)
class Request:
    """What a rule for channels is asked.

    Args:
        net: the dense network.
        scores: axis name → score of every unit; only these axes are pruned, and inside an axis the
            highest scores stay, unless the rule scores units itself.
        target: what the pruned network may cost.
        min_units, round_to: see `units.select`.
        cut: makes the selection: `units.select`, or a function of its arguments that ties
            widths together.
    """

    net: Network
    scores: Scores
    target: Target
    min_units: MinUnits = 0.05
    round_to: int = 1
    cut: Cut = select

    def select(self, scores: Scores, scope: str = "global") -> Kept:
        """The exact cut of these scores."""
        return self.cut(self.net, scores, self.target, scope, self.min_units, self.round_to)

    def problem(self, loss: Loss) -> WidthProblem:
        """The widths as dials, for rules that measure."""
        return WidthProblem(
            self.net, self.scores, self.target, loss, self.min_units, self.round_to, self.cut
        )


# A rule: (request, evidence and options by keyword) → kept units by axis, from `request.select`.
ChannelRule = Callable[..., Kept]
AnyRule = TypeVar("AnyRule", bound=ChannelRule)

CHANNEL_ALLOCATORS: dict[str, ChannelRule] = {}


def channel_allocator(name: str) -> Callable[[AnyRule], AnyRule]:
    """Register a rule (request, **evidence) → kept units under a name."""

    def register(rule: AnyRule) -> AnyRule:
        if name in CHANNEL_ALLOCATORS:
            raise ValueError(f'a budget rule for channels "{name}" is already registered')
        CHANNEL_ALLOCATORS[name] = rule
        return rule

    return register


CHANNEL_MEASURED = ("loss", "fluctuations")
"""Evidence that comes from calibration data."""


def allocate_channels(
    name: str | Mapping[str, float],
    net: Network,
    scores: Scores,
    target: Target | Mapping[str, object],
    *,
    min_units: MinUnits = 0.05,
    round_to: int = 1,
    cut: Cut = select,
    **evidence: Any,
) -> Kept:
    """Units to keep, so that the network costs at most what is asked, and just so.

    Args:
        name: a registered rule, or numbers or shares of units by axis name or glob pattern.
        net, scores, target, min_units, round_to, cut: see `Request`.
        evidence: what the rule reads beside the scores, and its options.

    Returns:
        Axis name → kept indices, int64, ascending; for every axis in `scores`.

    Raises:
        UnreachableTargetError: no choice meets the target; raised before any work.
        ValueError: unknown rule, evidence that is missing or unknown.
    """
    if isinstance(name, Mapping):
        name, evidence = "manual", {"values": name, **evidence}
    if name not in CHANNEL_ALLOCATORS:
        raise ValueError(
            f'unknown budget "{name}" for channels: expected one of {", ".join(CHANNEL_ALLOCATORS)}'
        )
    parameters = list(inspect.signature(CHANNEL_ALLOCATORS[name]).parameters.values())[1:]
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.name not in evidence:
            why = (
                "is measured on calibration data; provide calibration batches or choose a rule "
                "that reads the weights alone"
                if parameter.name in CHANNEL_MEASURED
                else "is an option of it"
            )
            raise ValueError(f'budget "{name}" needs {parameter.name}, which {why}')
    unknown = sorted(set(evidence) - {parameter.name for parameter in parameters})
    if unknown:
        raise ValueError(f'budget "{name}" does not read "{unknown[0]}"; leave it out')
    request = Request(net, scores, Target.parse(target), min_units, round_to, cut)
    return CHANNEL_ALLOCATORS[name](request, **evidence)


@channel_allocator("global")
def global_widths(request: Request) -> Kept:
    """One threshold over the scores of all units."""
    return request.select(request.scores)


@channel_allocator("uniform")
def uniform_widths(request: Request) -> Kept:
    """The same share of every axis."""
    return request.select(request.scores, "uniform")


@channel_allocator("depth-linear")
def depth_linear_widths(
    request: Request,
    *,
    slope: float | None = None,
    loss: Loss | None = None,
    slopes: tuple[float, ...] = (-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0),
) -> Kept:
    """Logits of the kept shares fall linearly with depth; see `depth_linear` for weights.

    Args:
        request: what is asked.
        slope: logit of the first axis minus that of the last one; None tries `slopes`.
        loss: judges the slopes, by forward passes.
        slopes: to try.

    Raises:
        ValueError: neither a slope nor a loss to find one.
    """
    depth = axis_depth(request.net, request.scores)

    def along(step: float) -> Kept:
        logits = {axis: torch.tensor(-step * x) for axis, x in depth.items()}
        return request.select(place(request.scores, logits))

    if slope is not None:
        return along(slope)
    if loss is None:
        raise ValueError(
            'budget "depth-linear" needs calibration batches to find its slope, or the option slope'
        )
    problem = request.problem(loss)
    found: list[tuple[float, Kept]] = []
    for step in slopes:
        kept = along(step)
        found.append((finite(problem.loss_of(kept), f"slope {step}"), kept))
    return min(found, key=lambda pair: pair[0])[1]


def axis_depth(net: Network, axes: Scores) -> dict[str, float]:
    """Place of every axis in the network, 0 to 1: by the first tensor that produces it."""
    uses = first_use(net)
    last = max(uses.values(), default=0) + 1
    begins = dict.fromkeys(axes, last)
    for name, tensor in net.tensors.items():
        for dim, produced in zip(tensor.dims, tensor.produces, strict=True):
            for axis in atoms(dim) if produced else ():
                if axis in begins:
                    begins[axis] = min(begins[axis], uses.get(name, last))
    order = {place: i for i, place in enumerate(sorted(set(begins.values())))}
    return {axis: order[place] / max(len(order) - 1, 1) for axis, place in begins.items()}


@channel_allocator("manual")
def manual_widths(request: Request, *, values: Mapping[str, float] = MappingProxyType({})) -> Kept:
    """The widths that are given; axes that are not named share the rest evenly.

    Args:
        request: what is asked.
        values: share (a float up to 1) or number of units (an int) that stay, by axis name or glob
            pattern.

    Raises:
        ValueError: a name that matches nothing, a width out of range, or all axes named and the
            target missed.
        UnreachableTargetError: the axes that are left cannot make up for what was given.
    """
    given = assigned(values, request.scores, "prunable axis")
    fixed: Kept = {}
    for axis, value in given.items():
        size = request.net.axes[axis].size
        width = round(value * size) if isinstance(value, float) else value
        if not (0 < value <= (1 if isinstance(value, float) else size)):
            raise ValueError(
                f'axis "{axis}" has {size} units; keep a share above 0 and up to 1.0, or a whole '
                f"number of them (got {value!r})"
            )
        width = max(width, 1)
        score = request.scores[axis].detach().cpu().double()
        order = score.argsort(descending=True, stable=True)
        fixed[axis] = order[:width].sort().values
    rest = {axis: score for axis, score in request.scores.items() if axis not in given}
    limits = request.target.limits(request.net)
    sizes = {axis: len(kept) for axis, kept in fixed.items()}
    if not rest:
        for count, limit in limits.items():
            if count(request.net, sizes) > limit:
                raise ValueError(
                    f"the given widths cost {count(request.net, sizes):,} "
                    f"{count.__name__.removeprefix('count_')}, the target allows {limit:,.0f}; "
                    "lower them, or leave an axis out to let it make up for the difference"
                )
        return fixed
    gone = {
        axis: torch.tensor(sorted(set(range(request.net.axes[axis].size)) - set(kept.tolist())))
        for axis, kept in fixed.items()
    }
    small = request.net.remove({axis: index for axis, index in gone.items() if len(index)})
    kept = request.cut(
        small,
        rest, request.target.in_counts(request.net), "uniform",
        request.min_units, request.round_to,
    )  # fmt: skip
    return {axis: fixed[axis] if axis in fixed else kept[axis] for axis in request.scores}
