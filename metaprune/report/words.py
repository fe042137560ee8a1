"""Figures as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PERCENT = ("accuracy",)
"""Metrics that are shares and are shown in percent."""


def metric(name: str, value: float) -> str:
    """A metric: accuracy as "92.14 %", anything else with four significant digits."""
    return f"{100 * value:.2f} %" if name in PERCENT else f"{value:.4g}"


def within(name: str, interval: tuple[float, float] | None) -> str:
    """An interval of a metric: "96.2 to 98.9 %"; empty where it is not known."""
    if interval is None:
        return ""
    low, high = interval
    if name in PERCENT:
        return f"{100 * low:.1f} to {100 * high:.1f} %"
    return f"{low:.4g} to {high:.4g}"


def label(name: str) -> str:
    """A metric's name with its unit."""
    return f"{name} (%)" if name in PERCENT else name.replace("_", " ")


def scaled(name: str, value: float) -> float:
    """A metric in the unit of `label`."""
    return 100 * value if name in PERCENT else value


def count(value: float) -> str:
    """A count with three significant digits: 853k, 1.24M, 40.8G."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}"


def size(megabytes: float) -> str:
    """A size with three significant digits: 3.43 MB, 141 GB."""
    for scale, unit in ((1e3, "GB"), (1, "MB"), (1e-3, "kB")):
        if megabytes >= scale:
            return f"{megabytes / scale:.3g} {unit}"
    return f"{1e6 * megabytes:.0f} B"


def duration(milliseconds: float | None) -> str:
    """A duration in milliseconds, "-" where it was not measured."""
    return "-" if milliseconds is None else f"{milliseconds:.3g} ms"


def asked(target: Mapping[str, Any]) -> str:
    """A target: "speedup 2.0 and params 50%"."""
    return " and ".join(f"{name} {value}" for name, value in target.items())


def saved(achieved: Mapping[str, float], params: float) -> str:
    """What a pruning saves: MACs, or where masks leave shapes as they are, which weights.

    Args:
        achieved: of the pruned network: speedup, sparsity, params.
        params: of the dense network.
    """
    if achieved["speedup"] > 1:
        return f"{achieved['speedup']:.2f}× fewer MACs"
    left = 1 - achieved["params"] / max(1, params)
    whole = f"{100 * abs(left):.0f} % {'fewer' if left >= 0 else 'more'} parameters"
    return f"{100 * achieved['sparsity']:.0f} % of the prunable weights gone, {whole}"
