"""Every class of exactness has words."""

from __future__ import annotations

from graphs.axes.dims import EXACTNESS
from metaprune.inspection.facts.exactness import MEANINGS


def test_the_class_of_exactness_of_every_group_is_explained():
    assert set(MEANINGS) == set(EXACTNESS)
