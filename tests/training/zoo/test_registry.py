from __future__ import annotations

import random
from collections import Counter

import pytest
import torch

from tests.training.zoo.conftest import IMAGES, TEXT
from training import zoo
from training.zoo import Spec, registry


@pytest.mark.parametrize("family", [*IMAGES, *TEXT])
def test_a_specification_is_all_there_is(family):
    shape = (15,) if family in TEXT else (1, 8, 8)
    spec = zoo.sample(5, shape, 10, (family,))
    again = Spec.from_json(spec.to_json())
    assert again == spec == zoo.sample(5, shape, 10, (family,))
    torch.manual_seed(1)
    first = zoo.build(spec).state_dict()
    torch.manual_seed(2)
    second = zoo.build(again).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_seeds_draw_every_family_and_every_choice():
    specs = [zoo.sample(seed, (1, 8, 8), 10) for seed in range(400)]
    counts = Counter(spec.family for spec in specs)
    assert set(counts) == set(IMAGES)
    assert min(counts.values()) > 35
    residual = [spec.options for spec in specs if spec.family == "residual"]
    assert {options["shortcut"] for options in residual} == {"pad", "project"}
    assert {len(options["blocks"]) for options in residual} == {2, 3}


@pytest.mark.parametrize("count", [3, 5, 9])
def test_benchmark_networks_are_reserved(count):
    taken = {"blocks": [count] * 3, "widths": [16, 32, 64], "shortcut": "pad"}
    free = {**taken, "widths": [12, 24, 48]}
    draws = iter([taken, {**taken, "shortcut": "project"}, free])
    stub = registry.Family("stub", lambda *a, **k: None, lambda rng, shape: next(draws), 3)
    with zoo.FAMILIES.scoped({"stub": stub}):
        assert zoo.sample(0, (3, 32, 32), 10, ("stub",)).options == free


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match='unknown family "gan": expected one of dense'):
        zoo.sample(0, (1, 8, 8), 10, ("gan",))
    with pytest.raises(ValueError, match="takes inputs of 1 dimensions"):
        zoo.sample(0, (1, 8, 8), 10, ("llama",))
    with pytest.raises(ValueError, match=r"'mlp' cannot be built.*'depth'"):
        zoo.build(Spec("mlp", {"depth": 3}, (1, 8, 8), 10, 0))
    with pytest.raises(ValueError, match="not the specification"):
        Spec.from_json('{"family": "mlp"}')
    with pytest.raises(ValueError, match=r'unknown setting "familes" .did you mean "families"'):
        zoo.build_zoo({"folder": "x", "familes": ["mlp"]})


def test_sampling_uses_only_its_own_generator():
    random.seed(0)
    before = random.getstate()
    zoo.sample(3, (1, 8, 8), 10)
    assert random.getstate() == before
