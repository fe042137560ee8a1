"""Transformations by name, and what they find for a job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from graphs import Network
from metaprune.job import Job
from metaprune.patterns import Pattern
from metaprune.settings import Settings
from pruners.transformations import TRANSFORMATIONS, Found, Transformation, in_order
from training.config import arguments


def parse(asked: str | Mapping[str, Any]) -> dict[str, Transformation]:
    """The transformations of a name, or of {name: options, ...} in this order, by name.

    Raises:
        ValueError: an unknown name or option, or none at all.
    """
    named = {asked: None} if isinstance(asked, str) else dict(asked)
    found = {}
    for name, options in named.items():
        make = TRANSFORMATIONS.find(str(name))
        if not isinstance(options, Mapping | None):
            raise ValueError(
                'transform is a name such as "rotate", or names with options such as '
                f'{{"rotate": {{"descent": 100}}}} (got {dict(named)!r})'
            )
        found[str(name)] = make(**arguments(make, options or {}, f"transform.{name}"))
    if not found:
        raise ValueError('transform names no transformation: "rotate", or None for none')
    return found


def told(found: Found, net: Network) -> dict[str, Any]:
    """What plans and reports say of a transformation, plain JSON values.

    Args:
        found: the transformation.
        net: the network after it.

    Returns:
        `turned` and `reordered` (axis → units), `folded` (axes), `untied` (name → parameters),
        `parameters` that it costs, `notes`, and what was measured.
    """
    moves = found.moves
    untied = {name: net.tensors[name].value.numel() for name in moves.unties}
    return {
        "turned": {axis: net.axes[axis].size for axis in moves.turns},
        "reordered": dict(moves.orders),
        "folded": list(moves.folds),
        "untied": untied,
        "parameters": sum(untied.values()),
        "notes": list(found.notes),
        **found.figures,
    }


def together(told: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What is said of the transformations of several prunings, first to last; None without any.

    What was done adds up, what was measured is that of the last one.
    """
    found: dict[str, Any] | None = None
    for one in told:
        if found is None:
            found = dict(one)
            continue
        found |= {
            **one,
            "turned": {**found["turned"], **one["turned"]},
            "reordered": {**found["reordered"], **one["reordered"]},
            "folded": list(dict.fromkeys((*found["folded"], *one["folded"]))),
            "untied": {**found["untied"], **one["untied"]},
            "parameters": found["parameters"] + one["parameters"],
            "notes": [*found["notes"], *one["notes"]],
        }
    return found


def transformed(
    job: Job, settings: Settings, pattern: Pattern, kept: Path | None = None
) -> Found | None:
    """What the transformations of settings find for a network; None where none is asked.

    Args:
        job: what is pruned.
        settings: without anything left to a default.
        pattern: of them.
        kept: file that keeps what was found; what it holds is not found again.

    Raises:
        ValueError: an unknown transformation or option, a pattern that none helps, a network with
            masks, which would not turn with it, or one that cannot follow those before it.
    """
    if settings.transform is None:
        return None
    chosen = parse(settings.transform)
    if job.history is not None and job.history.masks:
        raise ValueError(
            "masks of earlier prunings do not turn with a network: transform the dense one, or "
            "leave transform out"
        )
    request = pattern.eased(job, settings)
    if request is None:
        raise ValueError(
            f'no transformation makes pattern "{pattern.name}" easier; leave transform out'
        )
    if kept is not None and kept.is_file():
        return Found.load(kept)
    found, _ = in_order(request, chosen)
    if kept is not None:
        found.save(kept)
    return found
