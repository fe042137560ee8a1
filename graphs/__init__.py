"""Networks as axes and tensors: tracing, operator rules, exact round trips, slicing, views."""

from graphs.api import Network, trace
from graphs.axes.dims import Atom, Axis, Dim, Fixed, Prod, Sum
from graphs.errors import FrozenAxisError, TraceError
from graphs.relate.structure import Group, Tensor

__all__ = [
    "Atom",
    "Axis",
    "Dim",
    "Fixed",
    "FrozenAxisError",
    "Group",
    "Network",
    "Prod",
    "Sum",
    "Tensor",
    "TraceError",
    "trace",
]
