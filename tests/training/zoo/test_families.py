from __future__ import annotations

import pytest
import torch

from tests.training.zoo.conftest import IMAGES, TEXT
from training import zoo


def test_families_are_registered_for_their_inputs():
    assert zoo.families((1, 8, 8)) == IMAGES
    assert zoo.families((63,)) == TEXT


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


@pytest.mark.parametrize("family", TEXT)
def test_language_families(family):
    for seed in range(6):
        model = zoo.build(zoo.sample(seed, (15,), 32, (family,))).eval()
        ids = torch.randint(32, (2, 15))
        assert model(input_ids=ids).logits.shape == (2, 15, 32)
        later = ids.clone()
        later[:, 8:] = 0
        seen, changed = (model(input_ids=each).logits for each in (ids, later))
        assert torch.equal(seen[:, :8], changed[:, :8])
        assert (seen[:, 8:] != changed[:, 8:]).any()
