"""Lists of what can be named: all of every registry, a line each, with a sentence."""

from __future__ import annotations

import pytest

from metanet import METANETWORKS
from metaprune.cli.lists import LISTS, first_sentence
from metaprune.cli.main import LISTS as NAMES
from metaprune.packages import CONF
from metaprune.patterns.base import PATTERNS
from pruners.budgets import RULES
from pruners.solvers import SOLVERS
from training.data import DATASETS
from training.networks.registry import ARCHITECTURES
from training.zoo import FAMILIES

EXPECTED = {
    "models": {
        *(file.stem for file in (CONF / "model").glob("*.yaml")),
        *FAMILIES,
        *ARCHITECTURES,
    },
    "data": set(DATASETS),
    "rules": set(RULES),
    "solvers": set(SOLVERS),
    "patterns": {form for pattern in PATTERNS.values() for form in pattern.forms},
    "metanets": {"default", "value", *METANETWORKS},
}


def test_every_list_has_a_name_on_the_command_line():
    assert tuple(LISTS) == NAMES == tuple(EXPECTED)


@pytest.mark.parametrize("name", LISTS)
def test_a_list_has_everything_with_a_sentence(run, name):
    lines = list(LISTS[name]())
    assert {line[0] for line in lines} == EXPECTED[name]
    assert all(len(part) > 0 for line in lines for part in line)
    code, out, _ = run(name)
    assert code == 0
    shown = [line.split()[0] for line in out.splitlines() if line[:1].strip()]
    assert shown == [line[0].split()[0] for line in lines]


def test_what_a_module_registers_is_listed(run, tmp_path):
    (tmp_path / "my_listed_solver.py").write_text(
        '"""Mine."""\nfrom pruners.solvers import SOLVERS\n'
        'class Mine:\n    """Keep nothing. Really."""\n    masked, factored = True, False\n'
        'SOLVERS.add("mine", Mine)\n'
    )
    with SOLVERS.scoped():
        code, out, errors = run("solvers", "--import", "my_listed_solver")
        assert code == 0, errors
    assert [line.split() for line in out.splitlines()][-1] == ["mine", "masks", "Keep", "nothing."]


def test_lists_take_no_settings(run):
    code, _, errors = run("rules", "budget=uniform")
    assert code == 2
    assert "takes no settings" in errors


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("One. Two.", "One."),
        ("As in e.g. here, 2.5 of them.", "As in e.g. here, 2.5 of them."),
        ("Over\ntwo lines.\n\nAnother paragraph.", "Over two lines."),
        ("No stop", "No stop"),
        (None, ""),
    ],
)
def test_the_first_sentence(text, sentence):
    assert first_sentence(text) == sentence
