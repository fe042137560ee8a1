"""Recovery methods: what makes up for what a pruning takes, chosen by name and put in a list.

    methods(["bias", "refit", {"finetune": {"epochs": 1}}])

A method is a thing with a stage. "before": it changes the dense weights that are about to be cut.
"solve": it finds the masks and factors of weights, and the weights that go with them. "after": it
changes the pruned module. The pipeline calls the methods of a stage in the order of the list.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import torch
from torch import nn

from graphs.tools.registry import Registry, unknown

if TYPE_CHECKING:
    from graphs import Network
    from pruners.plan import Plan
    from pruners.recovery.solve_in_order import Ask
    from pruners.solvers import Solution

Stage: TypeAlias = Literal["before", "solve", "after"]
Asked: TypeAlias = "str | Mapping[str, Mapping[str, Any] | None]"
"""A method's name, or {name: options}."""


@dataclass
class Pruning:
    """A pruning under way: what recovery methods read, and what they change.

    Args:
        plan: one step, that fits `dense`.
        dense: the network whose function is to be kept.
        base: what is cut: `dense`, until a method of the stage "before" changes its values.
        teacher: the densest module there is, for methods that learn from one; never changed. None
            where a pruned network is recovered without one.
        example_inputs: what the model runs on: a tuple of arguments or a dict of keywords.
        batches: inputs of the model; none where nothing was given to calibrate on.
        data: a data set with its task (`training.data.Data`), for methods that train.
        held: parameter name → bool, masks of earlier prunings, which stay; over `dense`.
        asks: weight name → what it is to become, for the stage "solve".
        solutions: weight name → solution, once the stage "solve" is over.
        values: tensor name → new value over `dense`, of that stage.
        small: the pruned network, for the stage "after".
        pruned: its module, for the stage "after", which changes it in place.
        masks: parameter name → bool over `pruned`; a weight outside its mask is and stays 0.
        settled: whether norms fit the outputs, so that there is nothing to recalibrate.
        folder: for checkpoints of methods that train; None writes none.
        notes: sentences for the report.
        seconds: step → duration.
    """

    plan: Plan
    dense: Network
    base: Network
    teacher: nn.Module | None
    example_inputs: Any
    batches: Sequence[Any] = ()
    data: Any = None
    held: Mapping[str, torch.Tensor] = field(default_factory=dict)
    asks: dict[str, Ask] = field(default_factory=dict)
    solutions: dict[str, Solution] = field(default_factory=dict)
    values: dict[str, torch.Tensor] = field(default_factory=dict)
    small: Network | None = None
    pruned: nn.Module | None = None
    masks: dict[str, torch.Tensor] = field(default_factory=dict)
    settled: bool = False
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Note how long what is done inside takes; the same name twice adds up."""
        started = time.perf_counter()
        yield
        took = time.perf_counter() - started
        self.seconds[name] = round(self.seconds.get(name, 0.0) + took, 4)


class Recovery(Protocol):
    """One way to make up for what a pruning takes.

    The law: masks stay exactly 0 outside, the shapes of `pruned` and the original module stay as
    they are, and the same input gives the same result.

    Attributes:
        name: under which it is registered.
        stage: when it acts; see the module.
        serves: which plans it can serve: those that cut "axes", those that change "weights".
        needs: what it cannot do without: "batches", "data", "teacher".
    """

    name: str
    stage: Stage
    serves: frozenset[str]
    needs: frozenset[str]

    def recover(self, pruning: Pruning) -> None:
        """Act on a pruning; says in `pruning.notes` what was done."""


RECOVERIES: Registry[Callable[..., Recovery]] = Registry("recovery method")
"""Name → what makes the method from its options."""

recovery = RECOVERIES.register


def methods(asked: Sequence[Asked], serves: str | None = None) -> list[Recovery]:
    """Recovery methods by name, in the order in which they were asked for.

    Args:
        asked: names, or {name: options}.
        serves: "axes" or "weights": what the plan changes; None does not look.

    Raises:
        ValueError: an unknown name or option, a method that does not serve such a plan, or two that
            both find the weights.
    """
    found = [_made(*pair) for pair in map(pair_of, asked)]
    for method in found:
        if serves is not None and serves not in method.serves:
            fitting = ", ".join(n for n, make in RECOVERIES.items() if _serves(make, serves))
            other = "axes" if serves == "weights" else "weights"
            raise ValueError(
                f'recovery method "{method.name}" serves patterns that change {other}; for this '
                f"one choose among {fitting}"
            )
    solving = [method.name for method in found if method.stage == "solve"]
    if len(solving) > 1:
        raise ValueError(
            f"the recovery methods {' and '.join(solving)} both find the weights; choose one"
        )
    return found


def named(asked: Sequence[Asked]) -> list[str]:
    """The names in a list of recovery methods."""
    return [pair_of(one)[0] for one in asked]


def pair_of(asked: Asked) -> tuple[str, Mapping[str, Any]]:
    """A method's name, and its options.

    Raises:
        ValueError: neither a name nor {name: options}.
    """
    if isinstance(asked, str):
        return asked, {}
    if isinstance(asked, Mapping) and len(asked) == 1:
        name, options = next(iter(asked.items()))
        if options is None or isinstance(options, Mapping):
            return str(name), options or {}
    raise ValueError(
        'a recovery method is a name such as "refit", or a name with options such as '
        f'{{"finetune": {{"epochs": 1}}}} (got {asked!r})'
    )


def _made(name: str, options: Mapping[str, Any]) -> Recovery:
    make = RECOVERIES.find(name)
    parameters = inspect.signature(make).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    wrong = [key for key in options if key not in parameters and not free]
    if wrong:
        raise ValueError(f"recovery.{name}: {unknown('option', wrong[0], parameters)}")
    return make(**options)


def _serves(make: Callable[..., Recovery], serves: str) -> bool:
    return serves in getattr(make, "serves", ())
