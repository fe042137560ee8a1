from __future__ import annotations

import pytest
import torch

from tests.training.zoo.conftest import IMAGES
from training import zoo


def test_families_are_registered_for_their_inputs():
    assert zoo.families((1, 8, 8)) == IMAGES
    assert zoo.families((63,)) == ("llama",)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
@pytest.mark.parametrize("family", IMAGES)
def test_image_families(family, shape):
    seen = set()
    for seed in range(6):
        spec = zoo.sample(seed, shape, 10, (family,))
        model = zoo.build(spec).eval()
        assert model(torch.zeros(2, *shape)).shape == (2, 10)
        assert sum(p.numel() for p in model.parameters()) < 500_000
        seen.add(spec.to_json())
    assert len(seen) == 6


def test_language_family():
    for seed in range(4):
        model = zoo.build(zoo.sample(seed, (15,), 32)).eval()
        ids = torch.randint(32, (2, 15))
        assert model(input_ids=ids).logits.shape == (2, 15, 32)
