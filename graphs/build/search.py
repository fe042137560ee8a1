"""Which attributes must change for a forward to fit new shapes: tried, not guessed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, combinations, islice, product
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from graphs.build.attention import widen
from graphs.build.attributes import Field, Repair, evidence, fields, may_restate
from graphs.build.compare import agree
from graphs.build.configs import configs, has_configs
from graphs.build.layers import restate
from graphs.calls.running import Inputs, outputs
from graphs.program.program import changed_numbers
from graphs.relate.structure import Structure

MOST_TRIES = 64
"""Readings of attributes that are tried; a forward that fits none is left to the program."""

WIDENED = (
    "{} nn.MultiheadAttention became graphs.build.attention.AnyWidthAttention, which computes the "
    "same with heads that are not together as wide as their input; torch's own class cannot."
)

EXPERTS = "_experts_implementation_internal"
"""Where a configuration of transformers keeps the kernel for experts."""


@dataclass(frozen=True)
class Rebuilt:
    """A module made from a network.

    Args:
        model: of the traced class, or a `graphs.program.module.ExportedModule`.
        repaired: attributes that were brought in line with the new shapes, in the order of modules;
            those of a shared configuration have its path, such as "config".
        varied: configured field → {module path: value} where modules differ, so that no value of
            the shared configuration is right.
        notes: sentences for people: why it is the exported graph, what was copied.
    """

    model: nn.Module
    repaired: tuple[Repair, ...] = ()
    varied: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Choice = tuple[int | None, ...]
Places = dict[tuple[str, str], Any]


class Search:
    """Readings of a module's attributes, tried until its forward agrees with the program.

    Args:
        net: the network.
        own: a module of its class with its tensors; its attributes are changed.
    """

    def __init__(self, net: Structure, own: nn.Module) -> None:
        self.net, self.own, self.source = net, own, net.source.model
        configured = has_configs(self.source)
        found = evidence(net) if configured or may_restate(net) else {}
        self.fields = fields(self.source, found)
        self.configs = configs(self.source, found) if configured else []
        self.own_configs = [config.of(own) for config in self.configs]
        self.failure: Exception | None = None
        self.touched = False

    def likeliest(self) -> Rebuilt:
        """The first reading of all, carried out on `own` and not tried."""
        return self._carry_out(*next(self._likely()))

    def run(self, probe: Inputs, expected: list[torch.Tensor] | Exception) -> Rebuilt | None:
        """The first reading that agrees, carried out on `own`; None where there is none."""
        if isinstance(expected, Exception):
            self.failure = expected
            return None
        attempts = chain(self._likely(), self._guided(probe), self._unlikely())
        for choice, mode, places in attempts:
            found = self._carry_out(choice, mode, places)
            got = outputs(self.own, probe)
            if agree(got, expected):
                return found
            if self.failure is None:
                self.failure = (
                    got
                    if isinstance(got, Exception)
                    else ValueError("it computes something else than the traced program")
                )
        return None

    def _guided(self, probe: Inputs) -> Iterator[tuple[Choice, str, Places]]:
        """Readings module by module: where the forward stops, another one that lets it go on.

        One name may ask for other evidence in other modules. Of the modules that the forward was in
        when it failed, the innermost first, one attribute is read in another way; that stays if
        more modules come to their end then. Yields readings with which the forward runs through.
        """
        plain = self._plain()
        places: Places = {}
        progress = self._progress(probe, plain, places)
        left = MOST_TRIES
        while progress.failed and left > 0:
            better = None
            for place, value in self._alternatives(progress.inside, plain, places):
                left -= 1
                tried = {**places, place: value}
                found = self._progress(probe, plain, tried)
                if not found.failed or found.ended > progress.ended:
                    better = (tried, found)
                    break
                if left <= 0:
                    return
            if better is None:
                return
            places, progress = better
        if places and not progress.failed:
            yield plain, "shared", places

    def _progress(self, probe: Inputs, choice: Choice, places: Places) -> Progress:
        self._apply(choice, "shared", places)
        with following(self.own) as progress:
            progress.failed = isinstance(outputs(self.own, probe), Exception)
        return progress

    def _alternatives(
        self, inside: Sequence[str], choice: Choice, places: Places
    ) -> Iterator[tuple[tuple[str, str], Any]]:
        """((module path, attribute), value) of other readings in modules, the last one first."""
        for path in reversed(inside):
            for found, picked in zip(self.fields, choice, strict=True):
                for where, old, new in found.values:
                    if where != path:
                        continue
                    at = None if picked is None else min(picked, len(new) - 1)
                    now = places.get((path, found.name), old if at is None else new[at])
                    for value in (*new, old):
                        if value != now:
                            yield (path, found.name), value

    def _plain(self) -> Choice:
        """The first reading of all fields whose names say that they are widths."""
        return tuple(0 if f.named else None for f in self.fields)

    def _likely(self) -> Iterator[tuple[Choice, str, Places]]:
        """The likeliest reading of all fields, with what may be done to configurations."""
        plain = self._plain()
        modes = ["shared"]
        if any(config.varied for config in self.configs):
            modes.append("copied")
        if any(vars(config).get(EXPERTS) not in (None, "eager") for config in self.own_configs):
            modes.append("looped")
        if self.configs:
            modes.append("left")
        for mode in modes:
            yield plain, mode, {}

    def _unlikely(self) -> Iterator[tuple[Choice, str, Places]]:
        """Other readings of all fields, the same in every module."""
        plain = self._plain()
        every: Choice = tuple(None if f.named is None else 0 for f in self.fields)
        rest = chain([every] if every != plain else [], _others(self.fields, every, plain))
        for choice in islice(rest, MOST_TRIES):
            yield choice, "shared", {}

    def _carry_out(self, choice: Choice, mode: str, places: Places) -> Rebuilt:
        repaired, notes = self._apply(choice, mode, places)
        varied = {k: v for config in self.configs for k, v in config.varied.items()}
        return Rebuilt(self.own, tuple(repaired), varied, tuple(notes))

    def _apply(self, choice: Choice, mode: str, places: Places) -> tuple[list[Repair], list[str]]:
        """Set the attributes of `own` by a reading; whatever an earlier one set is taken back.

        Args:
            choice: which reading of each field.
            mode: what is done to configurations.
            places: (module path, attribute) → value that is read in another way there.
        """
        if self.touched:
            self._take_back()
        self.touched = True
        repaired = [
            repair
            for found, picked in zip(self.fields, choice, strict=True)
            if picked is not None
            for repair in found.repairs(picked)
        ]
        repaired = [r for r in repaired if (r.path, r.field) not in places]
        for (path, name), new in places.items():
            old = vars(self.source.get_submodule(path))[name]
            if new != old:
                repaired.append(Repair(path, name, old, new))
        repaired += _numbers(self.source, self.net)
        for path, name, _, new in repaired:
            vars(self.own.get_submodule(path))[name] = copy.copy(new)
        for path, module in self.own.named_modules():
            repaired += [Repair(path, *change) for change in restate(module)]
        shared, notes = self._configure(mode)
        widened = widen(self.own, self.source)
        if widened:
            notes.append(WIDENED.format(widened))
        return [*shared, *repaired], notes

    def _take_back(self) -> None:
        for path, module in self.source.named_modules():
            own = vars(self.own.get_submodule(path))
            for name, value in vars(module).items():
                if name in own and is_plain(value):
                    own[name] = copy.copy(value)

    def _configure(self, mode: str) -> tuple[list[Repair], list[str]]:
        repaired: list[Repair] = []
        notes = []
        for config, made in zip(self.configs, self.own_configs, strict=True):
            for name, value in vars(config.of(self.source)).items():
                if is_plain(value):
                    vars(made)[name] = copy.copy(value)
            for path, name in config.places:
                vars(self.own.get_submodule(path))[name] = made
            if mode == "left":
                continue
            for repair in (*config.repairs, *configured_numbers(self.net, made)):
                vars(made)[repair.field] = repair.new
                repaired.append(repair)
            if mode == "looped" and vars(made).get(EXPERTS) is not None:
                repaired.append(Repair("config", EXPERTS, vars(made)[EXPERTS], "eager"))
                vars(made)[EXPERTS] = "eager"
                notes.append(
                    "The experts run one after another, because the kernel that runs them at once "
                    "needs widths that are multiples of 16 bytes: prune with round_to=8."
                )
            copies = list(config.copies()) if mode == "copied" else []
            for path, name, values in copies:
                own = copy.copy(made)
                vars(own).update(values)
                vars(self.own.get_submodule(path))[name] = own
            if copies:
                notes.append(
                    f"{len(copies)} modules have a configuration of their own, because "
                    f"{', '.join(config.varied)} differ between layers."
                )
        return repaired, notes


def configured_numbers(net: Structure, config: Any) -> Iterator[Repair]:
    """What a configuration should say of the ε of root-mean-square norms."""
    changed = {old: new for _, old, new in changed_numbers(net.program, net.source.axes, net.axes)}
    for name, value in vars(config).items():
        if isinstance(value, float) and value in changed:
            yield Repair("config", name, value, changed[value])


def is_plain(value: Any) -> bool:
    """Whether an attribute is a number, a text, or a list of such."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return isinstance(value, int | float | str | None)


def _others(found: Sequence[Field], base: Choice, tried: Choice) -> Iterator[Choice]:
    """`base` with one, then two, then three fields read in another way or left alone."""
    options = [
        [value for value in (*range(f.choices), None) if value != start]
        for f, start in zip(found, base, strict=True)
    ]
    for count in range(1, min(3, len(found)) + 1):
        for which in combinations(range(len(found)), count):
            for values in product(*(options[i] for i in which)):
                choice = list(base)
                for i, value in zip(which, values, strict=True):
                    choice[i] = value
                if tuple(choice) != tried:
                    yield tuple(choice)


def _numbers(source: nn.Module, net: Structure) -> list[Repair]:
    """The ε of root-mean-square norms, which follows their number of units."""
    return [
        Repair(path, name, old, new)
        for path, old, new in changed_numbers(net.program, net.source.axes, net.axes)
        for name, value in vars(source.get_submodule(path)).items()
        if isinstance(value, float) and value == old
    ]


@dataclass
class Progress:
    """How far a forward came.

    Attributes:
        ended: number of modules that came to their end.
        inside: paths of the modules that it is in, the outermost first; as it failed, if it did.
        failed: whether it raised.
    """

    ended: int = 0
    inside: list[str] = field(default_factory=list)
    failed: bool = False


@contextmanager
def following(model: nn.Module) -> Iterator[Progress]:
    """Follow the next forward of a module."""
    progress = Progress()
    paths = {id(module): path for path, module in model.named_modules()}

    def enter(module: nn.Module, given: Any) -> None:
        if id(module) in paths:
            progress.inside.append(paths[id(module)])

    def leave(module: nn.Module, given: Any, result: Any) -> None:
        if id(module) in paths:
            progress.inside.pop()
            progress.ended += 1

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    try:
        yield progress
    finally:
        for handle in handles:
            handle.remove()
