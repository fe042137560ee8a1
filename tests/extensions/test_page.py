"""The page has an example for every kind of extension, and each of them is tested here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.extensions.conftest import REGISTRIES
from tests.extensions.page import examples

KINDS = (
    "operator rule",
    "solver",
    "budget rule",
    "pattern",
    "recovery method",
    "schedule",
    "transformation",
    "metanetwork head",
    "data set",
    "zoo family",
)


def test_every_kind_has_its_example_and_its_test():
    assert set(examples()) == set(KINDS)
    tested = {file.stem.removeprefix("test_") for file in Path(__file__).parent.glob("test_*.py")}
    assert {kind.replace(" ", "_") for kind in KINDS} <= tested


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_registers_something_for_the_time_of_a_test(kind, add):
    before = [dict(registry) for registry in REGISTRIES]
    add(kind)
    grown = [r.kind for r, b in zip(REGISTRIES, before, strict=True) if len(r) == len(b) + 1]
    assert len(grown) == 1
    assert max(map(len, examples()[kind].splitlines())) <= 100
