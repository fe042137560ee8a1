"""The classes of exactness of groups, counted and put into words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metaprune.inspection.schema import Group

MEANINGS = {
    "exact": "removing a unit whose weights are zero changes nothing",
    "bias-fold": "a removed unit passes a constant on, which is folded into the next bias",
    "norm-rescaled": "a root mean square counts units; the norm's weight is rescaled for it",
    "norm-changed": "a norm takes mean and variance over the units that stay: the outputs change",
    "data-dependent": "even a unit of zeros passes data on (a query head): the outputs change",
    "refused": "left alone",
}
"""Class of exactness → what it means, in a line."""


def classes(groups: Sequence[Group]) -> dict[str, dict[str, Any]]:
    """Class → {"groups": how many are of it, "meaning": in words}, for the classes that occur."""
    return {
        kind: {"groups": count, "meaning": meaning}
        for kind, meaning in MEANINGS.items()
        if (count := sum(group.exactness == kind for group in groups))
    }
