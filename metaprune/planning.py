"""From a network and a target to a plan: what is kept, and why so much of it where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from graphs import Network, trace
from graphs.calls.refusals import unwrapped
from metaprune.advice import Advisor, share_that_stays
from metaprune.calibration import Calibration
from metaprune.patterns import low_rank as factoring
from metaprune.patterns.blocks import IMITATION, plan_blocks
from metaprune.patterns.equal_widths import select as select_uniform
from metaprune.patterns.valueless import FIRST_UNITS, equal_scores, refuse, without_values
from metaprune.results.provenance import versions
from pruners import Plan, Target, budgets, fingerprint, measure, units
from pruners.plan import BLOCKS, CHANNELS, LOW_RANK, SHAPES, factors_of, mask_of
from pruners.solvers import SOLVERS, MaskPattern
from pruners.spared import SPARED

if TYPE_CHECKING:
    from metanet import Transformation

MASK_BASE = "lamp"
"""Budget of masks that metanetworks correct."""


def plan(
    model: nn.Module,
    example_inputs: Any,
    *,
    target: Mapping[str, Any] | Target | None = None,
    pattern: str = CHANNELS,
    metanet: str | Path | None = "default",
    budget: str | Mapping[str, Any] | None = None,
    solver: str | None = None,
    calibration: Calibration | Iterable[Any] | None = None,
    min_units: float | int = 0.05,
    round_to: int = 1,
    uniform: bool = False,
) -> Plan:
    """Decide what to prune; the model is left as it was.

    Args:
        model: any module that `torch.export` accepts.
        example_inputs: tuple of arguments or dict of keywords for its forward.
        target: `{"macs": "50%"}`, `{"params": 6e6, "speedup": 2.0}`, `{"sparsity": 0.5}`, ...: all
            are met. Without one only for N:M patterns, which leave no choice.
        pattern: "channels" (smaller shapes), "blocks" (fewer layers), "low-rank" (two thin layers
            for one), "unstructured", "row" or "N:M" (masks), "sparse+low-rank" or "N:M+low-rank"
            (a mask and two thin layers beside it).
        metanet: name or path of a metanetwork that transforms the weights and advises the budget
            by a feedforward pass; None does without. Blocks and low rank, which none has learned,
            do without as well.
        budget: how the target is divided: "metanet", or a rule of `pruners.budgets` for channels or
            masks; a rule with options, `{"rule": "search", "evaluations": 400}`; or kept shares by
            name or glob pattern, `{"layer3.*": 0.2}`. For N:M patterns a rule mixes different N.
            Default: for low rank "price" with calibration, else "global"; beside masks "uniform".
            For all others "metanet" if there is one, else "global" for channels,
            "uniform" for N:M and "erk" for other masks.
        solver: for masks and factors: what finds them; of `pruners.solvers`. Default: what fits the
            pattern and the calibration (`default_solver`).
        calibration: batches of model inputs, or a `Calibration`; with a loss in it the metanetwork
            sees the gradients of one pass.
        min_units: fewest units an axis keeps, a share or a number.
        round_to: kept numbers of units are multiples of this.
        uniform: for channels: all repeated blocks keep equally many units, so that one
            configuration says the widths of all layers and a transformers model opens with plain
            `from_pretrained`. What its class cannot be built with is left alone.

    On the meta device, where weights have no values, `budget="uniform"` without a metanetwork keeps
    the first units of every axis, and the plan says so.

    Raises:
        UnreachableTargetError: before any work, with the reachable range.
        TraceError: the model cannot be exported.
        ValueError: an unknown pattern, budget, solver or metric.
        FileNotFoundError: there is no such metanetwork.
    """
    model = unwrapped(model)
    return plan_network(
        trace(model, example_inputs),
        model,
        target=target,
        pattern=pattern,
        metanet=metanet,
        budget=budget,
        solver=solver,
        calibration=Calibration.of(calibration),
        min_units=min_units,
        round_to=round_to,
        uniform=uniform,
    )


def plan_network(
    net: Network,
    model: nn.Module,
    *,
    target: Mapping[str, Any] | Target | None,
    pattern: str,
    metanet: str | Path | None,
    budget: str | Mapping[str, Any] | None,
    solver: str | None,
    calibration: Calibration | None,
    min_units: float | int = 0.05,
    round_to: int = 1,
    uniform: bool = False,
) -> Plan:
    """`plan` for a model that has been traced."""
    check_pattern(pattern)
    measured = calibration is not None
    rule, options = budgets.named(budget or default_budget(pattern, metanet, measured))
    solver = solver or default_solver(pattern, measured)
    wanted = None if target is None else Target.parse(target)
    check(pattern, rule, solver, metanet)
    valueless = without_values(net)
    if valueless is not None:
        refuse(valueless, rule, metanet)
    names: list[str] = []
    if pattern in (*SHAPES, LOW_RANK) and wanted is None:
        raise ValueError('say what to reach, for instance target={"macs": "50%"}')
    if pattern == BLOCKS:
        assert wanted is not None
        return plan_blocks(net, wanted, solver, calibration)
    if factors_of(pattern):
        return factoring.plan_factors(
            net, model, wanted, pattern, rule, options, solver, calibration
        )
    if pattern == CHANNELS:
        assert wanted is not None
        wanted.check(net)
        share = share_that_stays(net, wanted)
    else:
        names, share = masked_weights(net, MaskPattern.parse(pattern), wanted)
    provenance: dict[str, Any] = {"versions": versions(), "fingerprints": fingerprint(net)}
    advice = None
    if metanet is not None:
        advisor = Advisor.hire(str(metanet), share, calibration)
        advice = advisor.advise(net, model, calibration)
        provenance["metanet"] = advisor.entry()
    if options and rule != "manual":
        provenance["budget"] = {key: str(value) for key, value in options.items()}
    content: dict[str, Any] = {}
    if wanted is not None and pattern == CHANNELS:
        kept = keep(net, wanted, rule, advice, min_units, round_to, uniform, calibration, options)
        content["kept"] = Plan.keeping(net, kept)
        if valueless is not None:
            provenance["units"] = FIRST_UNITS
        content["achieved"] = measure(net, {axis: len(index) for axis, index in kept.items()})
    else:
        dense = net if advice is None else net.replace(advice.values)
        found = shares(dense, names, share, pattern, rule, advice, calibration, options, solver)
        content["density"] = found
        content["achieved"] = {"sparsity": 1 - kept_share(net, found)}
    return Plan(
        pattern=pattern,
        solver=solver,
        budget=rule,
        asked={} if wanted is None else wanted.asked,
        provenance=provenance,
        **content,
    )


def default_budget(pattern: str, metanet: str | Path | None, measured: bool = False) -> str:
    """The rule where none is named; `measured` with calibration."""
    if pattern == BLOCKS:
        return IMITATION
    if factors_of(pattern):
        return factoring.default_rule(pattern, measured)
    if metanet:
        return "metanet"
    if pattern == CHANNELS:
        return "global"
    return "uniform" if ":" in pattern else "erk"


def default_solver(pattern: str, measured: bool) -> str:
    """The solver where none is named: the one with the smallest error on fresh inputs.

    Without calibration that is magnitude for masks, and the decomposition of the weights alone for
    low rank.
    """
    if factors_of(pattern):
        return LOW_RANK if mask_of(pattern) is None else "sparse+low-rank"
    return "admm" if measured and pattern not in SHAPES else "magnitude"


def kept_share(net: Network, density: Mapping[str, float]) -> float:
    """Share of all the named weights that stays."""
    sizes = {name: net.tensors[name].value.numel() for name in density}
    return sum(share * sizes[name] for name, share in density.items()) / sum(sizes.values())


def check_pattern(pattern: str) -> None:
    """Refuse what is no pattern.

    Raises:
        ValueError: says what there is.
    """
    try:
        mask_of(pattern)
    except ValueError as error:
        raise ValueError(
            f'{error}, or "{CHANNELS}", "{BLOCKS}" or "{LOW_RANK}" for smaller shapes, or '
            f'"sparse+{LOW_RANK}"'
        ) from error


def check(pattern: str, budget: str, solver: str, metanet: str | Path | None) -> None:
    """Refuse names that nothing answers to.

    Raises:
        ValueError: an unknown pattern, budget or solver, or a budget without its metanetwork.
    """
    check_pattern(pattern)
    if pattern == BLOCKS:
        known = [IMITATION]
    elif factors_of(pattern):
        known = factoring.rules(pattern)
    else:
        known = ["metanet", *budgets.rules_for("widths" if pattern == CHANNELS else "masks")]
    if budget not in known:
        raise ValueError(
            f'unknown budget "{budget}" for pattern "{pattern}": expected {", ".join(known)}'
        )
    if budget == "metanet" and metanet is None:
        raise ValueError('budget "metanet" needs a metanetwork: metanet="default", or a path')
    fitting = solvers_for(pattern)
    if solver not in fitting:
        why = f'does not fit pattern "{pattern}"' if solver in SOLVERS else "is unknown"
        raise ValueError(f'solver "{solver}" {why}; expected one of {", ".join(fitting)}')


def solvers_for(pattern: str) -> list[str]:
    """Names of the solvers that give what a pattern consists of: masks, factors, or both."""

    def gives(make: object) -> tuple[bool, bool]:
        return getattr(make, "masked", True), getattr(make, "factored", False)

    factors = factors_of(pattern)
    wanted = (mask_of(pattern) is not None or not factors, factors)
    return [name for name, make in SOLVERS.items() if gives(make) == wanted]


def keep(
    net: Network,
    target: Target,
    budget: str,
    advice: Transformation | None,
    min_units: float | int = 0.05,
    round_to: int = 1,
    uniform: bool = False,
    calibration: Calibration | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, torch.Tensor]:
    """Units to keep, by the score of the (transformed) weights and the budget.

    Args:
        net: the dense network.
        target: what it may cost.
        budget: "metanet" or a rule for channels of `pruners.budgets`.
        advice: of a metanetwork; its weights are scored, and its corrections count for the budget
            "metanet", or for the option start="metanet" of another.
        min_units, round_to, uniform: see `plan`.
        calibration: for rules that measure.
        options: of the rule.

    Returns:
        Axis name → kept indices, int64, ascending.
    """
    values = advice.values if advice else None
    if without_values(net) is None:
        scores = units.base_scores(net, values)
    else:
        scores = equal_scores(net)
    given = dict(options or {})
    from_metanet = given.get("start") == "metanet"
    if from_metanet:
        del given["start"]
        if advice is None:
            raise ValueError('a start from "metanet" needs a metanetwork: metanet="default"')
    if advice and (budget == "metanet" or from_metanet):
        scores = units.corrected(scores, advice.corrections())
    scores = {axis: s for axis, s in scores.items() if net.axes[axis].kind not in SPARED}
    rule = "global" if budget == "metanet" else budget
    dense = net if values is None else net.replace(values)
    if calibration is not None:
        batches = calibration.model_inputs
        given = {**budgets.measured(rule, dense, batches, divides="widths"), **given}
    return budgets.allocate_widths(
        rule,
        dense,
        scores,
        target,
        min_units=min_units,
        round_to=round_to,
        cut=select_uniform if uniform else units.select,
        **given,
    )


def shares(
    net: Network,
    names: list[str],
    density: float,
    pattern: str,
    budget: str,
    advice: Transformation | None = None,
    calibration: Calibration | None = None,
    options: Mapping[str, Any] | None = None,
    solver: str = "magnitude",
) -> dict[str, float]:
    """Kept share of every weight; for N:M whole numbers of M, all N unless a rule mixes them.

    Args:
        net: the network, with transformed weights if there are any.
        names: of the weights that take a mask.
        density: share of them that stays.
        pattern: "unstructured", "row" or "N:M".
        budget: "metanet" or a rule of `pruners.budgets`.
        advice: of a metanetwork, for the budget "metanet", or the option start="metanet".
        calibration: for rules that measure.
        options: of the rule.
        solver: that will prune, with the repair that `apply` makes; the rule "price" is judged by
            both, because budgets that suit bare magnitude masks do not suit refitted weights.
    """
    if MaskPattern.parse(pattern).m and budget in ("metanet", "uniform"):
        return dict.fromkeys(names, density)
    given = dict(options or {})
    if budget == "metanet" or given.get("start") == "metanet":
        if advice is None:
            raise ValueError('a start from "metanet" needs a metanetwork: metanet="default"')
        logits = {n: advice.tensor_logits[n] for n in names if n in advice.tensor_logits}
        advised = budgets.allocate_masks(
            MASK_BASE, net, density, weights=names, corrections=logits, pattern=pattern
        )
        if budget == "metanet":
            return advised
        given["start"] = advised
    if calibration is not None:
        batches = calibration.model_inputs
        given = {**budgets.measured(budget, net, batches, names), **given}
        if budget == "price":
            given.setdefault("solve", budgets.solving(net, batches, names, solver, pattern))
    return budgets.allocate_masks(budget, net, density, weights=names, pattern=pattern, **given)


def masked_weights(
    net: Network, pattern: MaskPattern, target: Target | None
) -> tuple[list[str], float]:
    """Weights that take a mask, and the share of them that stays.

    Raises:
        ValueError: nothing to mask, no target where one is needed, or one that N:M cannot meet.
        UnreachableTargetError: more is asked than masks can give.
    """
    names = [name for name, reason in budgets.maskable(net, pattern).items() if reason is None]
    if not names:
        raise ValueError(f"no weight has a shape that pattern {pattern} divides")
    if pattern.m:
        density = pattern.n / pattern.m
        if target is not None and target.density(net, names) < density - 1e-9:
            raise ValueError(
                f"pattern {pattern} keeps {density:.4g} of the weights, more than {target} allows; "
                "leave the target out or choose another pattern"
            )
        return names, density
    if target is None:
        raise ValueError('say what to reach, for instance target={"sparsity": 0.5}')
    return names, target.density(net, names)
