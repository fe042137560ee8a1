"""What can be said about pruning a model before any work: `metaprune.inspect`."""

from metaprune.inspection.build import inspect
from metaprune.inspection.schema import (
    Alone,
    Check,
    Difference,
    Group,
    Inspection,
    Layer,
    Module,
)

__all__ = ["Alone", "Check", "Difference", "Group", "Inspection", "Layer", "Module", "inspect"]
