"""A transformation from outside: planned, carried out, saved, reopened, and refused before."""

from __future__ import annotations

import pytest
import torch

import metaprune
from tests.extensions.networks import SOURCE, batches, mlp

EXAMPLE = (batches()[0],)


def prune(**settings):
    return metaprune.prune(mlp(), EXAMPLE, pattern="2:4", calibration=batches(), **settings)


def test_from_settings_to_a_saved_network(add, reopened):
    add("transformation")
    found = prune(transform={"paired": {"power": 1.0}})
    assert found.plan.moves.orders
    assert any(note.startswith("Paired: ") for note in found.report["transform"]["notes"])
    assert all(not found.model.get_parameter(n)[~mask].any() for n, mask in found.masks.items())
    reopened(found, source=SOURCE)
    whole = found.plan.moved(metaprune.trace(mlp(), EXAMPLE)).to_model()
    torch.testing.assert_close(whole(*EXAMPLE), mlp()(*EXAMPLE))


def test_it_is_unknown_before(add):
    with pytest.raises(ValueError, match='unknown transformation "paired"'):
        prune(transform="paired")
    add("transformation")
    with pytest.raises(ValueError, match=r"transform\.paired\.power takes"):
        prune(transform={"paired": {"power": "much"}})
