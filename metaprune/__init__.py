"""Pruning of any PyTorch network, by expected loss or by a trained graph metanetwork.

    result = metaprune.prune(model, example_inputs, target={"macs": "50%"})
    result.model, result.report
    result.save("pruned"); model = metaprune.load("pruned")

Names are imported when they are first used, so that `metaprune --help` answers at once.
"""

from __future__ import annotations

from importlib import import_module
from logging import getLogger
from typing import TYPE_CHECKING, Any

from wrapt import register_post_import_hook

from metaprune.packages import check_packages
from metaprune.version import __version__

if TYPE_CHECKING:
    from graphs import Network, TraceError, trace
    from metaprune import testing
    from metaprune.api import apply, plan, prune
    from metaprune.calibration import Calibration
    from metaprune.inspection import Inspection, inspect
    from metaprune.keeping import keep_masks
    from metaprune.keeping.adapters import masked_lora
    from metaprune.keeping.trainer import KeepMasks
    from metaprune.recovering import recover
    from metaprune.result import Result
    from metaprune.saving.folder import load
    from metaprune.settings import Settings
    from metaprune.streaming import stream
    from pruners import Plan, PlanError, Target, UnreachableTargetError

_HOMES = {
    "Calibration": "metaprune.calibration",
    "Inspection": "metaprune.inspection",
    "KeepMasks": "metaprune.keeping.trainer",
    "Network": "graphs",
    "Plan": "pruners",
    "PlanError": "pruners",
    "Result": "metaprune.result",
    "Settings": "metaprune.settings",
    "Target": "pruners",
    "TraceError": "graphs",
    "UnreachableTargetError": "pruners",
    "apply": "metaprune.api",
    "inspect": "metaprune.inspection",
    "keep_masks": "metaprune.keeping",
    "load": "metaprune.saving.folder",
    "masked_lora": "metaprune.keeping.adapters",
    "plan": "metaprune.api",
    "prune": "metaprune.api",
    "recover": "metaprune.recovering",
    "stream": "metaprune.streaming",
    "testing": "metaprune.testing",
    "trace": "graphs",
}

__all__ = [
    "Calibration",
    "Inspection",
    "KeepMasks",
    "Network",
    "Plan",
    "PlanError",
    "Result",
    "Settings",
    "Target",
    "TraceError",
    "UnreachableTargetError",
    "__version__",
    "apply",
    "inspect",
    "keep_masks",
    "load",
    "masked_lora",
    "plan",
    "prune",
    "recover",
    "stream",
    "testing",
    "trace",
]

check_packages()


def _tell_transformers(_module: Any) -> None:
    """Let `from_pretrained` know the method of what has no place in a configuration."""
    try:
        import_module("metaprune.saving.registered")
    except ImportError as error:  # the import of transformers itself must not fail
        getLogger("metaprune").warning(
            "from_pretrained of this version of transformers opens no folders of unequal widths or "
            "low rank (%s); metaprune.load does",
            error,
        )


register_post_import_hook(_tell_transformers, "transformers.quantizers.auto")


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'metaprune' has no attribute {name!r}")
    module = import_module(_HOMES[name])
    value = module if name == "testing" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
