"""Which rules divide which pattern."""

import pytest

from benchmarks.expected_loss.rules import METANET, RULES
from metaprune.patterns import parse
from pruners import budgets


@pytest.mark.parametrize("label", RULES)
def test_every_rule_is_a_budget_and_divides_something(label: str) -> None:
    rule = RULES[label]
    assert rule.budget == METANET or rule.budget in budgets.RULES
    assert any(rule.fits(parse(p)) for p in ("unstructured", "channels", "low-rank"))


def test_a_pattern_without_a_choice_is_left_to_the_rules_that_say_more() -> None:
    fitting = {label for label, rule in RULES.items() if rule.fits(parse("2:4"))}
    assert {"uniform", METANET} <= fitting
    assert fitting.isdisjoint({"erk", "lamp", "price", "search 16"})


def test_rules_that_prune_every_candidate_by_the_solver_divide_masks_alone() -> None:
    assert RULES["search 16, solved"].fits(parse("unstructured"))
    assert not RULES["search 16, solved"].fits(parse("channels"))
    assert RULES["search 16"].fits(parse("channels"))
