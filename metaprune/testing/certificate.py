"""The certificate of a model: every law, on one trace, as a value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from graphs import Network, trace
from graphs.axes.dims import EXACTNESS
from graphs.calls.running import as_inputs
from metaprune.testing.checking import Checked
from metaprune.testing.independence import independence_law
from metaprune.testing.laws import TOLERANCE, came_back
from metaprune.testing.matrices import matrix_law
from metaprune.testing.permutations import group_size, permutation_law, silent_axes
from metaprune.testing.removal import REPAIRED, removal_law
from metaprune.testing.scales import scale_law
from metaprune.testing.sizes import sizes_law
from metaprune.testing.subject import prepared_from
from metaprune.testing.training import training_law


@dataclass(frozen=True)
class Law:
    """One law of a certificate.

    Args:
        name: of the law.
        deviation: largest relative difference of an output.
        count: comparisons made; 0 where there was nothing to compare.
        failures: one sentence for each thing that breaks it; empty where it holds.
        note: what it leaves open.
    """

    name: str
    deviation: float
    count: int
    failures: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Certificate:
    """What was tested of a model, and what came out.

    Args:
        model: name of its class.
        laws: each with its deviation and failures.
        permutations: kind of axis → log₁₀ of the number of permutations declared. A law finds
            symmetries that are declared and wrong; a fall of this number finds those that went
            missing.
        scales: kind of axis → number of independent scale factors.
        matrices: kind of axis → how many numbers the rotations and invertible matrices of its axes
            may choose freely.
        axes: class of exactness → names of the axes.
        frozen: name of a frozen axis → why.
        silent: axes about which the permutations say nothing, because breaking them on purpose
            did not change the output either.
    """

    model: str
    laws: tuple[Law, ...]
    permutations: dict[str, float]
    scales: dict[str, int]
    matrices: dict[str, int]
    axes: dict[str, tuple[str, ...]]
    frozen: dict[str, str]
    silent: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether no law failed."""
        return not any(law.failures for law in self.laws)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"holds": self.holds, **asdict(self)}

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), indent=2)

    def require(self) -> None:
        """Raise `AssertionError` with all failures, if there are any."""
        failures = [f"{law.name}: {text}" for law in self.laws for text in law.failures]
        assert not failures, "\n".join(failures)

    def __str__(self) -> str:
        lines = [f"{self.model}: {'every law holds' if self.holds else 'BROKEN'}"]
        for law in self.laws:
            state = "broken" if law.failures else "holds" if law.count else "nothing to test"
            note = f" ({law.note})" if law.note else ""
            lines.append(f"  {law.name:<28} {state:<16} deviation {law.deviation:.1e}{note}")
            lines += [f"    {line}" for text in law.failures for line in text.splitlines()]
        sizes = ", ".join(f"{kind} 10^{size:.1f}" for kind, size in self.permutations.items())
        lines.append(f"  permutations declared        {sizes or 'none'}")
        scales = ", ".join(f"{kind} {n}" for kind, n in self.scales.items())
        lines.append(f"  scale factors                {scales or 'none'}")
        matrices = ", ".join(f"{kind} {n}" for kind, n in self.matrices.items())
        lines.append(f"  freedom of matrices          {matrices or 'none'}")
        counts = ", ".join(f"{kind} {len(names)}" for kind, names in self.axes.items())
        lines.append(f"  axes                         {counts}")
        if self.silent:
            lines.append(f"  not told by permutations     {', '.join(self.silent)}")
        return "\n".join(lines)


def certify(
    model: nn.Module,
    example_inputs: Any,
    *,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    one_by_one: bool | None = None,
    net: Network | None = None,
) -> Certificate:
    """Test every law of a model on one trace.

    Args:
        model: any traceable module, in any dtype and on any device; it stays as it is.
        example_inputs: tuple of arguments or dict of keywords.
        seed: of weights, permutations and units.
        tolerance: largest difference of any output, relative to its largest magnitude above 1.
        one_by_one: as in `assert_permutation_invariant`.
        net: its network; traced when None.

    Returns:
        A certificate; a law that fails is in it and does not raise. `require()` raises.

    Raises:
        graphs.TraceError: the model cannot be traced.
    """
    net = net or trace(model, example_inputs)
    laws = list(_round_trip(model, example_inputs, net))
    subject = prepared_from(net, as_inputs(example_inputs), seed)
    laws.append(_law("sizes", sizes_law(net, as_inputs(example_inputs), tolerance)))
    laws.append(_law("permutation", permutation_law(subject, tolerance, one_by_one)))
    scaling, scales = scale_law(subject, max(tolerance, REPAIRED))
    laws.append(_law("scale", scaling))
    turning, matrices = matrix_law(subject, tolerance)
    laws.append(_law("matrix", turning))
    for removal in removal_law(subject, tolerance):
        laws.append(_law(f"removal, {removal.exactness}", removal.checked, removal.note))
    classes = {
        kind: tuple(a.name for a in net.axes.values() if a.exactness == kind) for kind in EXACTNESS
    }
    return Certificate(
        model=type(model).__name__,
        laws=tuple(laws),
        permutations=group_size(net),
        scales=scales,
        matrices=matrices,
        axes={kind: names for kind, names in classes.items() if names},
        frozen={a.name: a.frozen for a in net.axes.values() if a.frozen is not None},
        silent=tuple(silent_axes(subject, tolerance)),
    )


def _law(name: str, checked: Checked, note: str = "") -> Law:
    return Law(name, checked.deviation, checked.count, checked.failures, note)


def _round_trip(model: nn.Module, example_inputs: Any, net: Network) -> Iterator[Law]:
    """The round trip, and what can only be asked of a module that came back."""
    try:
        back = came_back(model, example_inputs, net)
    except AssertionError as error:
        yield Law("round trip", float("inf"), 1, (str(error),))
        return
    yield Law("round trip", 0.0, 1)
    inputs = as_inputs(example_inputs)
    yield _law("training", *training_law(model, back, net, inputs))
    yield _law("independence", independence_law(model, back, net, inputs))
