"""Things by name: one registry for operators, rules, solvers, patterns, data sets and the rest.

    RULES: Registry[Rule] = Registry("budget rule")

    @RULES.register("uniform")
    def uniform(...): ...

    RULES.find("unifrom")      ValueError: unknown budget rule "unifrom" (did you mean "uniform"?)

A module outside the package registers in the same way; its names are then known everywhere. What
takes seconds to import is promised: its name is known at once, it is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar, overload

T = TypeVar("T")
D = TypeVar("D")
Thing = TypeVar("Thing")


@dataclass(frozen=True)
class _Promised:
    """Where a thing is that nobody has asked for yet."""

    module: str
    attribute: str


class Registry(Mapping[str, T]):
    """Name → thing, in the order of registration; a name is taken once.

    Args:
        kind: what the things are, in the singular: "budget rule".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._things: dict[str, T | _Promised] = {}

    def register(self, name: str) -> Callable[[Thing], Thing]:
        """Decorator that registers what it decorates.

        Raises:
            ValueError: the name is taken.
        """

        def add(thing: Thing) -> Thing:
            self.add(name, thing)  # type: ignore[arg-type]
            return thing

        return add

    def add(self, name: str, thing: T) -> None:
        """Register a thing.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._things:
            raise ValueError(f'a {self.kind} "{name}" is already registered')
        self._things[name] = thing

    def promise(self, name: str, module: str, attribute: str) -> None:
        """Register a thing whose module is imported only when the thing is asked for.

        Args:
            name: of the thing.
            module: where it is, dotted.
            attribute: what it is called there.

        Raises:
            ValueError: the name is taken.
        """
        self.add(name, _Promised(module, attribute))  # type: ignore[arg-type]

    @contextmanager
    def scoped(self, things: Mapping[str, T] | None = None) -> Iterator[None]:
        """For a while: what is registered inside is gone afterwards, whatever happens.

            with PATTERNS.scoped():
                import my_pattern

        What is imported for the first time inside is registered for as long as that: import what
        is to stay before.

        Args:
            things: registered inside as well, in the place of those of the same names.
        """
        before = self._things
        self._things = {**before, **(things or {})}
        try:
            yield
        finally:
            self._things = before

    def find(self, name: str, among: Iterable[str] | None = None) -> T:
        """The thing of a name.

        Args:
            name: of it.
            among: names that fit here; all when None.

        Raises:
            ValueError: there is none; names those there are, and the nearest.
        """
        known = list(self._things if among is None else among)
        if name not in known:
            raise ValueError(unknown(self.kind, name, known))
        return self[name]

    def __getitem__(self, name: str) -> T:
        thing = self._things[name]
        if isinstance(thing, _Promised):
            return getattr(import_module(thing.module), thing.attribute)
        return thing

    # Mapping's own two raise and catch an error for every name that is missing.

    def __contains__(self, name: object) -> bool:
        return name in self._things

    @overload
    def get(self, name: str, /) -> T | None: ...
    @overload
    def get(self, name: str, /, default: T | D) -> T | D: ...
    def get(self, name: str, /, default: Any = None) -> Any:
        """The thing of a name, or the default where there is none."""
        return self[name] if name in self._things else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The sentence for a name that nothing answers to, with the nearest one that something does."""
    names = list(known)
    close = get_close_matches(str(name), names, n=1)
    hint = f' (did you mean "{close[0]}"?)' if close else ""
    return f'unknown {kind} "{name}"{hint}: expected one of {", ".join(names) or "none"}'
