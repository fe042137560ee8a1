"""Budget rules by name, and what each of them can divide.

    @rule("mine", divides="masks")
    def mine(weights, density, *, blocks, norms, strength=1.0): ...

What a rule reads stands in its signature, after the star: structure of the network, evidence from
calibration data (`MEASURED`), the request, and options of the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, TypeVar

from graphs.tools.registry import Registry
from pruners.budgets.evidence import MEASURED

if TYPE_CHECKING:
    from torch import nn

    from graphs import Network

DIVIDES = ("masks", "widths", "ranks")
"""What a rule can divide, and what it then is:

| divides | rule | front |
|---|---|---|
| "masks" | (weights by name, kept share of all, ...) → kept share by name | `allocate_masks` |
| "widths" | (`Request`, ...) → kept units by axis, from `request.select` | `allocate_widths` |
| "ranks" | (`RankProblem`, ...) → levels, from `problem.cut` or `realise` | `allocate_ranks` |
"""

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


def keywords(function: Callable[..., Any]) -> dict[str, Parameter]:
    """The parameters of a function that only keywords reach."""
    found = signature(function).parameters
    return {name: p for name, p in found.items() if p.kind is Parameter.KEYWORD_ONLY}


@dataclass(frozen=True)
class Rule:
    """One way to divide budgets.

    Args:
        name: of it.
        functions: what it can divide, of `DIVIDES` → the function that does.
    """

    name: str
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def parameters(self, divides: str) -> dict[str, Parameter]:
        """What it reads beside the subject of the division, by name."""
        return keywords(self.functions[divides])


RULES: Registry[Rule] = Registry("budget rule")


def rule(name: str, *, divides: str) -> Callable[[AnyFunction], AnyFunction]:
    """Decorator that registers the function of a rule for what it divides.

    Args:
        name: of the rule; a rule that divides several things registers a function for each.
        divides: of `DIVIDES`.

    Raises:
        ValueError: the rule divides this already, or it is nothing that can be divided.
    """
    if divides not in DIVIDES:
        raise ValueError(f"a rule divides one of {', '.join(DIVIDES)} (got {divides!r})")

    def register(function: AnyFunction) -> AnyFunction:
        if name not in RULES:
            RULES.add(name, Rule(name))
        functions = RULES[name].functions
        if divides in functions:
            raise ValueError(f'a budget rule "{name}" for {divides} is already registered')
        functions[divides] = function
        return function

    return register


def rules_for(divides: str) -> list[str]:
    """Names of the rules that can divide this, of `DIVIDES`."""
    return [name for name, each in RULES.items() if divides in each.functions]


def dividing(name: str, divides: str) -> Callable[..., Any]:
    """The function of a rule.

    Raises:
        ValueError: unknown rule, or one that cannot divide this; says which can.
    """
    known = rules_for(divides)
    if name in RULES and name not in known:
        raise ValueError(
            f'budget rule "{name}" cannot divide {divides}: expected one of {", ".join(known)}'
        )
    return RULES.find(name, known).functions[divides]


def checked(
    name: str, divides: str, given: Mapping[str, Any], brought: Iterable[str] = ()
) -> list[str]:
    """Refuse a call that lacks what a rule reads, or brings what it does not read.

    Args:
        name: of the rule.
        divides: of `DIVIDES`.
        given: evidence and options, by name.
        brought: names of what every rule may read without being given it.

    Returns:
        The names of all that the rule reads.

    Raises:
        ValueError: unknown rule, missing or unknown evidence; with the nearest name.
    """
    dividing(name, divides)
    parameters = RULES[name].parameters(divides)
    check_evidence(name, parameters, given, brought)
    return list(parameters)


def check_evidence(
    name: str,
    parameters: Mapping[str, Parameter],
    given: Mapping[str, Any],
    brought: Iterable[str] = (),
) -> None:
    """Refuse evidence that is missing or that nothing reads.

    Args:
        name: of the rule, for the message.
        parameters: what it reads.
        given: evidence and options, by name.
        brought: names of what it need not be given.

    Raises:
        ValueError: missing or unknown evidence; with the nearest name.
    """
    available = (*given, *brought)
    for parameter in parameters.values():
        if parameter.default is not Parameter.empty or parameter.name in available:
            continue
        if parameter.name not in MEASURED:
            raise ValueError(f'budget "{name}" needs the option {parameter.name}')
        raise ValueError(
            f'budget "{name}" needs {MEASURED[parameter.name].words}, measured on calibration '
            "batches: provide some, or choose a rule that reads the weights alone, such as "
            '"uniform"'
        )
    unread = sorted(set(given) - set(parameters))
    if unread:
        close = get_close_matches(unread[0], parameters, n=1)
        remedy = f'did you mean "{close[0]}"?' if close else "leave it out"
        raise ValueError(f'budget "{name}" does not read "{unread[0]}"; {remedy}')


def needs(name: str, divides: str = "masks") -> list[str]:
    """The evidence from calibration data that a rule reads.

    Raises:
        ValueError: unknown rule, or one that cannot divide this.
    """
    dividing(name, divides)
    return [each for each in MEASURED if each in RULES[name].parameters(divides)]


def measured(
    name: str,
    net: Network,
    batches: Sequence[Any],
    weights: Iterable[str] = (),
    divides: str = "masks",
) -> dict[str, Any]:
    """What a rule reads beside the weights, and calibration data can tell.

    Args:
        name: of the rule; what it asks for stands in its signature.
        net: the network; its own weights are run.
        batches: inputs of the model; none leaves everything out.
        weights: names of the budgeted tensors.
        divides: what is divided, of `DIVIDES`.

    Returns:
        Evidence by name; see `MEASURED`.

    Raises:
        ValueError: unknown rule, or one that cannot divide this.
    """
    wanted = needs(name, divides)
    if not wanted or not batches:
        return {}
    model: nn.Module = net.to_model()
    listed = list(weights)
    return {each: MEASURED[each].measure(net, model, batches, listed) for each in wanted}
