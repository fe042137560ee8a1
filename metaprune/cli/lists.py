"""What can be named on the command line, a line each: `metaprune rules`, `metaprune models`, ..."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table

from graphs.tools.registry import Registry
from metaprune.packages import CONF, HOME

Line: TypeAlias = tuple[str, str, str]
"""Name, what kind it is, and a sentence."""

PIPED = 240
"""Columns where nobody looks at a terminal."""


def first_sentence(text: str | None) -> str:
    """What stands before the first full stop that ends a sentence, or the first paragraph."""
    paragraph = " ".join((text or "").strip().split("\n\n")[0].split())
    found = re.match(r"(.+?[^.\s][.])(?= [A-Z`\"]|$)", paragraph)
    return found[1] if found else paragraph


def _configurations(group: str) -> Iterator[Line]:
    """The options of a group of configurations, by the comment at their top."""
    for file in sorted((CONF / group).glob("*.yaml")):
        comment = file.read_text(encoding="utf-8").splitlines()[0]
        yield file.stem, f"{group}={file.stem}", first_sentence(comment.lstrip("# "))


def models() -> Iterator[Line]:
    """Networks, chosen by `model=NAME`."""
    from metaprune.cli import config as _config  # noqa: F401 (registers the source "pruned")
    from training.networks.registry import ARCHITECTURES
    from training.zoo import FAMILIES

    yield from _configurations("model")
    builders = {name: family.builder for name, family in FAMILIES.items()}
    for name, builder in {**ARCHITECTURES, **builders}.items():
        yield name, "model.family", first_sentence(inspect.getdoc(builder))


def data() -> Iterator[Line]:
    """Data sets, chosen by `data=NAME`."""
    from training.data import DATASETS

    yield from _configurations("data")
    ours = {file.stem for file in (CONF / "data").glob("*.yaml")}
    for name, load in DATASETS.items():
        if name not in ours:
            yield name, "data.name", first_sentence(inspect.getdoc(load))


def rules() -> Iterator[Line]:
    """Budget rules, chosen by `budget=NAME`."""
    from pruners.budgets import RULES

    for name, rule in RULES.items():
        sentence = first_sentence(inspect.getdoc(next(iter(rule.functions.values()))))
        yield name, ", ".join(rule.functions), sentence


def solvers() -> Iterator[Line]:
    """Solvers of masks and factors, chosen by `solver=NAME`."""
    from pruners.solvers import SOLVERS

    every: Mapping[str, Any] = SOLVERS
    for name, solver in every.items():
        gives = {"masks": solver.masked, "factors": solver.factored}
        kinds = " and ".join(kind for kind, given in gives.items() if given)
        yield name, kinds, first_sentence(inspect.getdoc(solver))


def patterns() -> Iterator[Line]:
    """Patterns, chosen by `pattern=NAME`."""
    from metaprune.patterns.base import PATTERNS

    for pattern in PATTERNS.values():
        sentence = first_sentence(inspect.getdoc(pattern))
        for form in pattern.forms:
            yield form, "shapes" if pattern.prunes == "axes" else "weights", sentence


def metanets() -> Iterator[Line]:
    """Metanetworks: trained ones, chosen by `metanet=NAME`, and kinds, by `metanet.name`."""
    import metanet

    for file in sorted((HOME / "metaprune" / "pretrained").glob("*.safetensors")):
        loaded = metanet.load(file)
        size = sum(p.numel() for p in loaded.parameters())
        yield file.stem, "trained", f"A {loaded.config['name']} metanetwork of {size:,} parameters."
    yield from _registered(metanet.METANETWORKS, "train metanet.name")


def _registered(registry: Registry[Any], kind: str) -> Iterator[Line]:
    for name, thing in registry.items():
        yield name, kind, first_sentence(inspect.getdoc(thing))


LISTS: Mapping[str, Callable[[], Iterator[Line]]] = {
    "models": models,
    "data": data,
    "rules": rules,
    "solvers": solvers,
    "patterns": patterns,
    "metanets": metanets,
}


def show(name: str, console: Console | None = None) -> None:
    """Print one of `LISTS`."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True, style="dim")
    table.add_column()
    for line in LISTS[name]():
        table.add_row(*line)
    console = console or Console()
    if not console.is_terminal:
        console.width = PIPED  # a line each, for programs that read lines
    console.print(table, highlight=False, markup=False)
