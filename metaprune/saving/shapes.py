"""Shapes that a configuration of transformers has no fields for, said in it all the same.

A configuration knows one width for all layers and no factors. What it cannot say stands in its
`quantization_config`, whose method is "metaprune". Once metaprune is imported, transformers knows
it (`metaprune.saving.registered`): the model is cut before its weights are read, in its own class,
and what `save_pretrained` writes opens again. Without metaprune, transformers skips a method that
it does not know, and would fill weights that are missing with random numbers: in their place stand
empty tensors, whose shape fits no model, so that it refuses them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from graphs import trace
from graphs.calls.running import as_inputs
from pruners import Plan, PlanError
from pruners.factors import shaped
from pruners.plan import Kept

METHOD = "metaprune"
FORMAT = 1


def told(plan: Plan, example_inputs: Any, absent: Iterable[str] = ()) -> dict[str, Any] | None:
    """The `quantization_config` of a pruned model, plain JSON values; None where none can say it.

    Args:
        plan: the chain that was carried out; of each axis how many units stay is said, not which.
        example_inputs: what the dense model was traced with: tensors and plain values, not nested.
        absent: parameters of the dense model that the pruned one has not.
    """
    args, kwargs = as_inputs(example_inputs)
    try:
        example = [list(map(_described, args)), {k: _described(v) for k, v in kwargs.items()}]
    except TypeError:
        return None
    steps = [_step(step) for step in plan.steps if step.changes_shapes]
    said = {"quant_method": METHOD, "format": FORMAT, "steps": steps, "example": example}
    return {**said, "absent": sorted(absent)}


def placeholders(absent: Iterable[str]) -> dict[str, torch.Tensor]:
    """Empty tensors for parameters that a pruned model has not."""
    return {name: torch.empty(0) for name in absent}


def cut(model: nn.Module, steps: list[Any], example: list[Any]) -> nn.Module:
    """A module of the shapes that `told` says, from a dense one.

    Args:
        model: dense, on the meta device; left as it was.
        steps, example: as `told` wrote them.

    Raises:
        ValueError: they fit no such model, or are none.
    """
    try:
        args, kwargs = example
        given: Any = tuple(map(_tensor, args)) or {k: _tensor(v) for k, v in kwargs.items()}
        if args and kwargs:
            raise ValueError("example inputs are arguments or keywords")
        for step in steps:
            net = trace(model, given)
            for name in step.get("unties", ()):
                net = net.untie(name)
            plan = _plan(step, {name: axis.size for name, axis in net.axes.items()})
            plan.check(net)
            model = shaped(plan.carry_out(net).to_model(), plan)
    except (KeyError, TypeError, AttributeError, RuntimeError, PlanError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            "the quantization_config of this folder does not say how the model was pruned: "
            f"{reason}; save the result again"
        ) from error
    return model


def _step(step: Plan) -> dict[str, Any]:
    found = {
        "kept": {axis: [kept.of, len(kept.keep)] for axis, kept in step.kept.items()},
        "rank": dict(step.rank),
        "masked": [name for name in step.rank if name in step.density],
        "dropped": list(step.dropped),
        "unties": [] if step.moves is None else list(step.moves.unties),
    }
    return {word: said for word, said in found.items() if said}


def _plan(step: Mapping[str, Any], sizes: Mapping[str, int]) -> Plan:
    kept = {}
    for axis, (of, stay) in step.get("kept", {}).items():
        if of != sizes.get(axis) or type(stay) is not int or not 0 < stay <= of:
            raise ValueError(f"the axis {axis} has {sizes.get(axis)} units, not {of!r:.40}")
        kept[axis] = Kept(of, tuple(range(stay)))
    return Plan(
        pattern="channels",
        solver="magnitude",
        budget="manual",
        kept=kept,
        rank=step.get("rank", {}),
        density=dict.fromkeys(step.get("masked", ()), 1.0),
        dropped=tuple(step.get("dropped", ())),
    )


def _described(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"a {type(value).__name__} is no plain value")


def _tensor(said: Any) -> Any:
    if not isinstance(said, dict):
        return said
    dtype = getattr(torch, said["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{said['dtype']!r:.40} is no dtype")
    return torch.empty(said["shape"], dtype=dtype, device="meta")
