"""`inspect`: trace a model and say what may be pruned, before any work."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from graphs import trace
from graphs.calls.copying import working_copy
from graphs.calls.diagnosis import described
from graphs.calls.modes import own_modes
from graphs.calls.refusals import admit, unwrapped
from metaprune.calibration import Calibration, given
from metaprune.ignoring import Ignored
from metaprune.inspection.faces.folder import save
from metaprune.inspection.faces.terminal import as_text
from metaprune.inspection.facts.exactness import classes
from metaprune.inspection.facts.expected import expected
from metaprune.inspection.facts.flops import check
from metaprune.inspection.facts.graph import graph_data
from metaprune.inspection.facts.groups import floors, groups
from metaprune.inspection.facts.latency import latency as measured_latency
from metaprune.inspection.facts.layers import layers
from metaprune.inspection.facts.left_alone import left_alone
from metaprune.inspection.facts.modules import modules
from metaprune.inspection.facts.notes import notes
from metaprune.inspection.facts.turning import turning
from metaprune.inspection.schema import Findings
from metaprune.settings import Settings
from pruners import Target, measure
from pruners.targets import SPARED

ASKED = {
    **dict.fromkeys(("macs", "params", "size_mb", "units"), "50%"),
    "sparsity": 0.5,
    "speedup": 2.0,
}
"""A target of every metric, to ask for the range of each."""


@dataclass(frozen=True)
class Inspection(Findings):
    """What an inspection found, on a terminal (`print`), as a page and as a folder."""

    def __str__(self) -> str:
        return as_text(self)

    def save(self, folder: str | Path) -> Path:
        """Write `inspection.json`, `inspection.html` and `graph.graphml`; return the folder.

        Raises:
            FileExistsError: there is a file, or a folder with something in it, of that name.
        """
        return save(self, folder)


@own_modes()
def inspect(
    model: nn.Module,
    example_inputs: Any,
    *,
    min_units: float | int = 0.05,
    ignore: Sequence[str | type[nn.Module]] = (),
    latency: int = 0,
    calibration: Calibration | Iterable[Any] | None = None,
) -> Inspection:
    """Say what may be pruned, what is left alone and why, and what is reachable.

    Nothing is changed or trained. On the meta device no weight is needed:

        with torch.device("meta"):
            model, images = MyModel(), torch.empty(1, 3, 224, 224)
        print(metaprune.inspect(model, (images,)))

    Args:
        model: any module that `torch.export` accepts.
        example_inputs: tuple of arguments or dict of keywords for its forward.
        min_units: fewest units of an axis that stay, a share or a number, as in `prune`.
        ignore: what stays dense, as in `prune`: it is listed with what is left alone, and the
            reachable range does without it.
        latency: forward passes by which latency is measured; 0 measures none.
        calibration: batches of model inputs, or a `Calibration`, by which it is told what pruning
            each axis and each weight is expected to lose; None tells nothing.

    Raises:
        TraceError: the model cannot be exported; the message has the line of its code and the
            remedy.
        ValueError: a name to ignore that nothing answers to; or latency or expected losses are
            asked of a model on the meta device.
    """
    asked = Settings.of(min_units=min_units, ignore=ignore)
    start = time.perf_counter()
    model = unwrapped(model)
    admit(model)
    aside = working_copy(model)
    came = given(aside, example_inputs, calibration)
    example_inputs = came.example_inputs
    net = trace(model, example_inputs)
    traced = time.perf_counter()
    counted, by_torch = check(net, aside, example_inputs)
    net = Ignored(asked.ignore).left(net, model)
    checked = time.perf_counter()
    least = floors(net, min_units, SPARED)
    reachable = Target.parse(ASKED).reachable(net, least)
    seconds = {"trace": traced - start, "check": checked - traced}
    if latency:
        reachable["latency_ms"] = measured_latency(net, aside, least, latency)
        seconds["latency"] = time.perf_counter() - checked
    curves: dict[str, Any] = {}
    if came.calibration is not None:
        begun = time.perf_counter()
        curves = expected(net, aside, came.calibration.model_inputs)
        seconds["expected"] = time.perf_counter() - begun
    found = groups(net)
    turned, not_turned = turning(net)
    dense = measure(net)
    return Inspection(
        model=type(model).__name__,
        inputs=described(example_inputs),
        cost={name: dense[name] for name in ("macs", "params", "size_mb", "units")},
        reachable=reachable,
        min_units=min_units,
        groups=found,
        exactness=classes(found),
        left_alone=left_alone(net.axes.values()),
        turning=turned,
        not_turning=not_turned,
        modules=modules(net, model, by_torch if counted.torch_macs is not None else None),
        layers=layers(net),
        check=counted,
        graph=graph_data(net),
        expected=curves,
        notes=(*came.notes, *notes(net, model)),
        seconds={step: round(duration, 3) for step, duration in seconds.items()},
    )
