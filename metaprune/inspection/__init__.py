"""What can be said about pruning a model before any work: `metaprune.inspect`.

`schema` holds what is found as values, `facts` reads them off a traced network, and `faces` shows
them on a terminal, on a page and in a folder. `api` puts the three together, and `examples` makes
inputs where there are no data.
"""

from metaprune.inspection.api import Inspection, inspect
from metaprune.inspection.schema import Alone, Check, Difference, Group, Layer, Module

__all__ = ["Alone", "Check", "Difference", "Group", "Inspection", "Layer", "Module", "inspect"]
