"""Operators and their rules by name."""

from __future__ import annotations

import pytest
import torch

from graphs.rules import RULES, rule
from graphs.rules.registry import known_of, lookup

torch.library.define("ours::unheard", "(Tensor x) -> Tensor")


def test_an_operator_has_one_rule_and_the_others_are_unknown() -> None:
    with pytest.raises(ValueError, match=r'a rule for operator "relu" is already registered'):
        rule("relu")(lambda ctx, x: x.dims)
    unheard = torch.ops.ours.unheard.default
    assert lookup(unheard) is None
    assert known_of(unheard).zero == "map"
    with RULES.scoped():
        rule("ours.unheard", zero="first")(lambda ctx, x: x.dims)
        assert known_of(unheard).zero == "first"
    assert lookup(unheard) is None


def test_a_rule_for_one_overload_goes_before_that_for_all() -> None:
    assert lookup(torch.ops.aten.max.other) is RULES["max.other"]
    assert lookup(torch.ops.aten.max.dim) is RULES["max"]
