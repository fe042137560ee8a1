"""The law of scales: along every gauge that a network has, its function stays."""

from __future__ import annotations

from typing import Any

import torch

from graphs import Axis
from graphs.symmetries.scales import Place, gauges, scaled
from metaprune.testing.checking import Checked, explain, gap, search
from metaprune.testing.subject import Subject


def scale_law(subject: Subject, tolerance: float) -> tuple[Checked, dict[str, int]]:
    """Scale every axis along a random one of its gauges, all at once; the function must stay.

    Returns:
        What was found, and the number of independent factors by kind of axis.
    """
    net = subject.net
    known = gauges(net)
    counts: dict[str, int] = {}
    chosen: dict[str, tuple[dict[Place, float], torch.Tensor]] = {}
    for name, basis in known.items():
        if not basis:
            continue
        axis = net.axes[name]
        counts[axis.kind] = counts.get(axis.kind, 0) + len(basis) * axis.size
        mixed: dict[Place, float] = {}
        for gauge in basis:
            weight = float(torch.rand(1, generator=subject.generator)) + 0.5
            for place, degree in gauge.degrees.items():
                mixed[place] = mixed.get(place, 0.0) + weight * degree
        factors = torch.rand(axis.size, generator=subject.generator, dtype=torch.float64) + 0.5
        chosen[name] = mixed, factors
    if not chosen:
        return Checked(0.0, 0), counts
    call = subject.same_shape()
    expected = call(net)

    def deviation(axes: Any) -> float:
        moved = net
        for axis in axes:
            moved = scaled(moved, axis.name, *chosen[axis.name])
        return gap(expected, call(moved))

    axes: list[Axis] = [net.axes[name] for name in chosen]

    def sentence(culprits: Any, by: float) -> str:
        happened = f"changed the output by {by:.3g}"
        hint = "an operator on the way that does not scale with its operand"
        return explain(net, culprits, "scaling", happened, None, hint)

    return search(iter([axes]), deviation, tolerance, sentence), counts
