"""Networks as axes and tensors: tracing, operator rules, exact round trips, slicing, views.

`api` is what users call. A module becomes calls (`calls`), these become a network over axes
(`relate`, with the rules of `rules` and the dimensions of `axes`), which holds the traced forward
(`program`) and becomes a module again (`build`), with whole branches less (`depth`), or a graph
(`views`). `cost` counts, `errors` and `places` say what is wrong and where, and `tools` is what all
packages share.
"""

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
