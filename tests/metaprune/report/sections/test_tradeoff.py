"""The plot has a scale whatever number of targets there is: it begins at the dense network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metaprune.report.plots import plot
from metaprune.report.sections import tradeoff as section
from tests.metaprune.report.reports import report


def limits(found):
    seen = []

    def draw(axes):
        section._draw(axes, found, section.saving(found))
        seen.append((axes.get_xlim(), axes.get_ylim(), axes.get_xticks()))

    plot(draw, "score")
    return seen[0]


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("methods", [1, 2])
def test_the_dense_network_and_every_target_are_inside(targets, masks, methods):
    entries = [e for e in report().entries if methods == 2 or e.method == "metanet"]
    entries = [e for e in entries if targets == 2 or e.asked == {"speedup": 2.0}]
    if masks:
        entries = [
            replace(
                e, achieved={**e.achieved, "speedup": 1.0, "sparsity": 1 - 1 / e.asked["speedup"]}
            )
            for e in entries
        ]
    found = replace(report(), entries=tuple(entries))
    (low, high), (bottom, top), ticks = limits(found)
    across = "sparsity" if masks else "speedup"
    places = [0.0 if masks else 1.0, *(e.achieved[across] for e in entries)]
    assert low < min(places)
    assert max(places) < high
    assert bottom < 95 < top  # the dense network's accuracy
    assert high - low < 1.5 * (max(places) - min(places))
    inside = [tick for tick in ticks if low <= tick <= high]
    assert len({f"{tick:g}" for tick in inside}) == len(inside) >= 3
