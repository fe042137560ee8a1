"""Transformations: changes that keep a network's function and make it easier to prune, by name.

`base` says what one is, `requests` what it is asked; `rotate`, `permute` and `auto` are one each.
`sites` says where weights turn with axes, `importance` what single weights are then worth and
`components` what features are, `closed` and `descent` find rotations. What is found are moves
(`pruners.moves`), which plans keep.
"""

from pruners.transformations.auto import Auto
from pruners.transformations.base import (
    TRANSFORMATIONS,
    Found,
    Transformation,
    in_order,
    transformation,
)
from pruners.transformations.permute import Permute
from pruners.transformations.requests import MaskRequest, Request, UnitRequest
from pruners.transformations.rotate import Rotate

__all__ = [
    "TRANSFORMATIONS",
    "Auto",
    "Found",
    "MaskRequest",
    "Permute",
    "Request",
    "Rotate",
    "Transformation",
    "UnitRequest",
    "in_order",
    "transformation",
]
