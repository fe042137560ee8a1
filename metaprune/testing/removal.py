"""Removal of dead units, class of exactness by class of exactness.

exact            removal computes what zeroing computes
norm-rescaled    the same, with the rescale of the norm that `Network.remove` folds in
bias-fold        the same, with the constant folded into the biases of the consumers
norm-changed     removal computes what zeroing computes with statistics over the units that stay
data-dependent   removal runs, with outputs of the same shapes that are finite
refused          removal raises `FrozenAxisError`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from graphs import Axis, FrozenAxisError, Network
from graphs.dims import Dim, atoms, kept_positions, size
from graphs.export import quiet_evaluation
from graphs.rules.registry import operator_name
from metaprune.testing.locate import first_difference
from metaprune.testing.subject import Outputs, Subject, gap, kill
from metaprune.testing.symmetry import Checked, explain, search
from pruners.statistics.calls import Call, LinearCalls
from pruners.structured.compensation import compensate_bias, input_means

# Of the classes whose removal is repaired by a number in the forward or a fold.
REPAIRED = 1e-9
_STATISTICS = (
    *("layer_norm", "native_layer_norm", "group_norm", "instance_norm"),
    *("rms_norm", "_fused_rms_norm", "_weight_norm", "_weight_norm_interface"),
    *("mean", "var", "std", "var_mean", "linalg_vector_norm"),
)


@dataclass(frozen=True)
class Removal:
    """What removing dead units of the axes of one class did.

    Args:
        exactness: the class.
        axes: number of axes of that class with a unit to spare.
        checked: what the law found; deviations of classes without a claim are reported only.
        note: what could not be compared, and why; empty otherwise.
    """

    exactness: str
    axes: int
    checked: Checked
    note: str = ""


def removal_law(
    subject: Subject, tolerance: float, one_by_one: bool = False
) -> tuple[Removal, ...]:
    """Remove a third of the units of the axes of each class, all of a class at once.

    Args:
        subject: network and inputs.
        tolerance: of class exact; the repaired classes get at least `REPAIRED`.
        one_by_one: remove from each axis alone as well.
    """
    laws = {
        "exact": _exact,
        "norm-rescaled": _exact,
        "bias-fold": _folded,
        "norm-changed": _restated,
        "data-dependent": _runs,
    }
    found = []
    for exactness, law in laws.items():
        axes = [a for a in subject.free() if a.exactness == exactness and _spare(a)]
        if axes:
            allowed = tolerance if exactness == "exact" else max(tolerance, REPAIRED)
            found.append(law(subject, exactness, axes, allowed, one_by_one))
    return (*found, *_refused(subject))


def _spare(axis: Axis) -> int:
    return min(max(1, axis.size // 3), axis.size - axis.minimum)


def _units(axes: Sequence[Axis], generator: torch.Generator) -> dict[str, torch.Tensor]:
    return {
        a.name: torch.randperm(a.size, generator=generator)[: _spare(a)].sort().values for a in axes
    }


def _killed(net: Network, units: Mapping[str, torch.Tensor]) -> Network:
    for name, indices in units.items():
        net = kill(net, name, indices)
    return net


def _sets(axes: list[Axis], one_by_one: bool) -> Iterator[list[Axis]]:
    yield axes
    if one_by_one and len(axes) > 1:
        yield from ([axis] for axis in axes)


def _exact(
    subject: Subject, exactness: str, axes: list[Axis], tolerance: float, one_by_one: bool
) -> Removal:
    """Removing is zeroing."""
    units = _units(axes, subject.generator)
    call = subject.same_shape()

    def deviation(chosen: Sequence[Axis]) -> float:
        gone = {axis.name: units[axis.name] for axis in chosen}
        masked = _killed(subject.net, gone)
        return gap(call(masked), subject.function(masked.remove(gone)))

    def sentence(chosen: Sequence[Axis], by: float) -> str:
        gone = {axis.name: units[axis.name] for axis in chosen}
        masked = _killed(subject.net, gone)
        where = first_difference(subject, masked, masked.remove(gone), _kept(masked, gone))
        return _explained(subject.net, chosen, by, where)

    return Removal(
        exactness, len(axes), search(_sets(axes, one_by_one), deviation, tolerance, sentence)
    )


def _folded(
    subject: Subject, exactness: str, axes: list[Axis], tolerance: float, one_by_one: bool
) -> Removal:
    """Dead units are constants; once those are in the consumers' biases, removing is zeroing."""
    units = _units(axes, subject.generator)
    call = subject.same_shape()
    notes: dict[str, str] = {}

    def deviation(chosen: Sequence[Axis]) -> float:
        gone = {axis.name: units[axis.name] for axis in chosen}
        masked = _killed(subject.net, gone)
        expected = call(masked)
        plain = gap(expected, subject.function(masked.remove(gone)))
        if plain <= tolerance:
            return plain
        kept = _kept(masked, gone)
        spread, padded, watched = constants(subject, masked, kept)
        means = input_means(masked, subject.program(masked), [_batch(subject)])
        fold = compensate_bias(masked, kept, means)
        missing = {
            **fold.uncompensated,
            **dict.fromkeys(_readers(masked, kept) - watched, "not a linear map or convolution"),
            **dict.fromkeys(padded, "next to its zero padding a fold is an average"),
        }
        notes.update(missing)
        if missing or spread > tolerance:
            return spread
        return gap(expected, subject.function(masked.replace(fold.values).remove(gone)))

    def sentence(chosen: Sequence[Axis], by: float) -> str:
        return _explained(subject.net, chosen, by, None)

    # Each alone: one consumer that cannot be folded into would hide the others.
    checked = search(iter([a] for a in axes), deviation, tolerance, sentence)
    text = "; ".join(f"not folded into {name}: {why}" for name, why in notes.items())
    return Removal(exactness, len(axes), checked, text)


def _readers(net: Network, axes: Mapping[str, Any]) -> set[str]:
    """Names of the tensors that read along some axes."""
    return {
        name
        for name, tensor in net.tensors.items()
        for dim, made in zip(tensor.dims, tensor.produces, strict=True)
        if not made and not axes.keys().isdisjoint(atoms(dim))
    }


def constants(
    subject: Subject, masked: Network, kept: Mapping[str, torch.Tensor]
) -> tuple[float, set[str], set[str]]:
    """How much dead units vary where linear maps and convolutions read them.

    Args:
        subject: inputs and dtype.
        masked: the network with dead units.
        kept: axis → units that are not dead.

    Returns:
        Largest difference between two examples or places, relative to 1 or the largest value; the
        names of the weights that read dead units across zero padding; of all that were watched.
    """
    module = subject.program(masked)
    names = {id(value): name for name, value in module.named_parameters()}
    worst = 0.0
    padded: set[str] = set()
    watched: set[str] = set()

    def watch(call: Call) -> None:
        nonlocal worst
        name = names.get(id(call.weight))
        if name is None:
            return
        tensor = masked.tensors[name]
        index = kept_positions(tensor.dims[1], kept, masked.axes) if len(tensor.dims) > 1 else None
        if index is None:
            return
        watched.add(name)
        x = call.input.movedim(call.channel_dim, -1)
        x = x.unflatten(-1, (-1, tensor.value.shape[1]))  # (..., groups, inputs of a group)
        dead = torch.ones(x.shape[-1], dtype=torch.bool)
        dead[index] = False
        rows = x[..., dead.to(x.device)].flatten(0, -3)
        if rows.numel():
            spread = (rows - rows[:1]).abs().max() / rows.abs().max().clamp_min(1.0)
            worst = max(worst, float(spread))
            if call.padding not in (0, "valid") and any(pytree.tree_leaves(call.padding)):
                padded.add(name)

    with LinearCalls(watch):
        subject.run(module)
    return worst, padded, watched


def _restated(
    subject: Subject, exactness: str, axes: list[Axis], tolerance: float, one_by_one: bool
) -> Removal:
    """Removing is zeroing with every statistic taken over the units that stay."""
    units = _units(axes, subject.generator)
    note = ""

    def deviation(chosen: Sequence[Axis]) -> float:
        nonlocal note
        gone = {axis.name: units[axis.name] for axis in chosen}
        masked = _killed(subject.net, gone)
        small = masked.remove(gone)
        got = subject.function(small)
        try:
            expected = _masked_statistics(subject, masked, small, gone)
        except Exception as error:  # an operator that cannot be split
            note = f"only that it runs: {type(error).__name__}: {error}".splitlines()[0]
            return 0.0 if all(bool(v.isfinite().all()) for v in got) else float("inf")
        return gap(expected, got)

    def sentence(chosen: Sequence[Axis], by: float) -> str:
        return _explained(subject.net, chosen, by, None)

    checked = search(_sets(axes, one_by_one), deviation, tolerance, sentence)
    return Removal(exactness, len(axes), checked, note)


def _runs(
    subject: Subject, exactness: str, axes: list[Axis], tolerance: float, one_by_one: bool
) -> Removal:
    """Removing runs; by how much it differs from zeroing is reported, not judged."""
    units = _units(axes, subject.generator)
    masked = _killed(subject.net, units)
    expected, got = subject.same_shape()(masked), subject.function(masked.remove(units))
    broken = [
        f"removing units of {', '.join(units)}: an output has another shape or is not finite"
        for a, b in zip(expected, got, strict=True)
        if a.shape != b.shape or bool((a.isfinite() & ~b.isfinite()).any())
    ]
    return Removal(exactness, len(axes), Checked(gap(expected, got), 1, tuple(broken[:1])))


def _refused(subject: Subject) -> tuple[Removal, ...]:
    frozen = [a for a in subject.net.axes.values() if a.frozen is not None]
    broken = []
    for axis in frozen:
        try:
            subject.net.remove(axis.name, [0])
        except FrozenAxisError:
            continue
        broken.append(f"{axis.name} is frozen ({axis.frozen}), and yet a unit could be removed")
    if not frozen:
        return ()
    return (Removal("refused", len(frozen), Checked(0.0, len(frozen), tuple(broken))),)


def _kept(net: Network, gone: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    def rest(name: str) -> torch.Tensor:
        every = torch.arange(net.axes[name].size)
        return every[~torch.isin(every, gone[name])]

    return {name: rest(name) for name in gone}


def _batch(subject: Subject) -> Any:
    args, kwargs = subject.inputs
    return kwargs if kwargs else args


def _explained(net: Network, axes: Sequence[Axis], by: float, where: str | None) -> str:
    what = f"changed the output by {by:.3g}, although the class is {axes[0].exactness}"
    return explain(net, axes, "removing dead units of", what, where)


def _masked_statistics(
    subject: Subject, masked: Network, small: Network, gone: Mapping[str, torch.Tensor]
) -> Outputs:
    """Outputs of the masked network, with statistics computed over the kept units alone.

    The full-size program runs; only norms and means see the kept positions of their operands, with
    the arguments of the smaller program, and their results are put back between zeros.
    """
    kept = _kept(masked, gone)
    full: Any = subject.program(masked)
    cut: Any = subject.program(small)
    smaller = {node.name: node for node in cut.graph.nodes}
    axes = masked.axes

    def dims(node: fx.Node) -> tuple[Dim, ...] | None:
        if node.op == "get_attr":
            tensor = masked.tensors.get(str(node.target))
            return tensor.dims if tensor else None
        return masked.program.dims.get(node.name)

    class Masked(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            touched = any(
                kept_positions(dim, kept, axes) is not None
                for operand in n.all_input_nodes
                for dim in dims(operand) or ()
            )
            if not touched or not _takes_statistics(n):
                return super().run_node(n)
            operands = {m.name: _cut(self.env[m], dims(m), kept, axes) for m in n.all_input_nodes}
            twin = smaller[n.name]

            def value(leaf: Any) -> Any:
                return operands[leaf.name] if leaf.name in operands else self.env[leaf]

            args = fx.node.map_arg(twin.args, value)
            kwargs = fx.node.map_arg(twin.kwargs, value)
            result = n.target(*args, **kwargs)
            if isinstance(result, torch.Tensor):
                return _spread(result, dims(n), kept, axes)
            # Of several results the first one is the value, the others are its statistics.
            along = (dims(n) or ())[: result[0].dim()]
            return (_spread(result[0], along, kept, axes), *result[1:])

    flat = pytree.tree_leaves(subject.inputs)
    with quiet_evaluation(full), torch.no_grad():
        found = Masked(full).run(*flat, enable_io_processing=False)
    return [v for v in pytree.tree_leaves(found) if isinstance(v, torch.Tensor)]


def _takes_statistics(node: fx.Node) -> bool:
    """Whether a result depends on how many positions there are along a dimension."""
    name = operator_name(node.target)
    # A batch norm in training mode, over a weight: weight standardisation.
    return name in _STATISTICS or (name == "batch_norm" and node.args[5] is True)


def _cut(value: Any, dims: Any, kept: Any, axes: Any) -> Any:
    for i, dim in enumerate(dims or ()):
        index = kept_positions(dim, kept, axes)
        if index is not None:
            value = value.index_select(i, index.to(value.device))
    return value


def _spread(value: torch.Tensor, dims: Any, kept: Any, axes: Any) -> torch.Tensor:
    """The inverse of `_cut`, with zeros between."""
    for i, dim in enumerate(dims or ()):
        index = kept_positions(dim, kept, axes)
        if index is not None:
            shape = [size(dim, axes) if j == i else n for j, n in enumerate(value.shape)]
            value = value.new_zeros(shape).index_copy(i, index.to(value.device), value)
    return value
