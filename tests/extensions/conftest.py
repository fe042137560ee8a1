"""Modules of a user's own, outside of the package: what they register is gone after the test."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import metanet
import metaprune
import metaprune.api  # registers all that is shipped, before anything is registered for a while
from graphs.rules import RULES
from metanet.registry import METANETWORKS
from metaprune.patterns import PATTERNS
from metaprune.schedules import SCHEDULES
from pruners import budgets
from pruners.recovery import RECOVERIES
from pruners.solvers import SOLVERS
from pruners.transformations import TRANSFORMATIONS
from tests.extensions.page import examples
from tests.metaprune.conftest import run  # noqa: F401 (a fixture)
from training.data import DATASETS
from training.meta import OBJECTIVES
from training.sources import SOURCES
from training.zoo import FAMILIES

REGISTRIES = (
    RULES,
    SOLVERS,
    budgets.RULES,
    PATTERNS,
    RECOVERIES,
    SCHEDULES,
    TRANSFORMATIONS,
    metanet.LOGIT_HEADS,
    metanet.WEIGHT_HEADS,
    metanet.LAYERS,
    METANETWORKS,
    DATASETS,
    FAMILIES,
    SOURCES,
    OBJECTIVES,
)

Add = Callable[[str], ModuleType]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Write an example of the page to a module outside of the package; returns its name."""
    folder = tmp_path / "of a user"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    names = []

    def written(kind: str) -> str:
        name = f"my_{kind.replace(' ', '_')}"
        (folder / f"{name}.py").write_text(examples()[kind], encoding="utf-8")
        names.append(name)
        return name

    with ExitStack() as stack:
        for registry in REGISTRIES:
            stack.enter_context(registry.scoped())
        yield written
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def add(write: Callable[[str], str]) -> Add:
    """Write an example of the page to a module outside of the package, and import it."""
    return lambda kind: importlib.import_module(write(kind))


@pytest.fixture
def reopened(tmp_path: Path) -> Callable[[metaprune.Result], nn.Module]:
    """Save a result, open it, and hold what comes back to the model; returns what came back."""

    def save_and_open(result: metaprune.Result, **options: object) -> nn.Module:
        again = metaprune.load(result.save(tmp_path / "pruned", **options), trust=True)
        with torch.no_grad():
            expected, found = (m(*result.example_inputs) for m in (result.model, again))
        assert torch.equal(expected, found)
        return again

    return save_and_open
