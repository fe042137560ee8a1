"""Plans carried out on an architecture, for its shapes: the values do not matter."""

from __future__ import annotations

from typing import Any

from torch import nn

from graphs import Network, trace
from pruners import Plan, PlanError
from pruners.factors import shaped


def carried_out(net: Network, step: Plan) -> nn.Module:
    """A module of the shapes that one step of a plan gives a network.

    Of its moves only those count that change what tensors there are: ties undone.

    Raises:
        PlanError: the plan does not fit.
    """
    try:
        for name in () if step.moves is None else step.moves.unties:
            net = net.untie(name)
    except (KeyError, ValueError) as error:
        raise PlanError(f"the plan unties {name}: {error.args[0]}") from error
    return shaped(step.carry_out(net).to_model(), step)


def replayed(net: Network, plan: Plan, example_inputs: Any) -> nn.Module:
    """A module of the shapes that a chain gives a dense network, step after step.

    Args:
        net: the dense network.
        plan: the chain.
        example_inputs: what the dense model was traced with; every step is.

    Raises:
        PlanError: a step does not fit what the one before it gave.
    """
    first, *rest = plan.steps
    model = carried_out(net, first)
    for step in rest:
        if step.changes_shapes:
            model = carried_out(trace(model, example_inputs), step)
    return model
