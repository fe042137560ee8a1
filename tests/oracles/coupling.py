"""What must be cut together, found by experiment: no operator rule of `graphs` takes part.

A forward is recorded call by call. A *slice* is (array, dimension, position), an array a parameter,
a buffer or the result of a call. Every call is probed alone, on random operands: resample one slice
of an operand and see which positions of the result move. `Q(s, B)` are the positions of array B,
dimension by dimension, that slice s meets in a call; a dimension that is met everywhere tells
nothing. A cut is a set of slices, and it is consistent when

    touch    where a slice is cut and a call ties it to array B, the cut covers what it meets there
             along one dimension (an element leaves a rectangular array with a whole slice only);
    partner  what is multiplied and summed away with nothing but cut slices is cut
             (a column of a weight without its input, and the input without its column);
    mixed    a position of a result that every position of the operands moves alike stays, unless
             it is a copy (an expanded dimension);
    borders  inputs and outputs of the model stay, and every dimension keeps a position.

`Oracle.cuts(s)` are the smallest consistent cuts that contain s, seen at parameters and buffers.
Those are the units of the axes through s: a channel has one, a feature of a head has two (its head,
its feature). They are decided up to chance of measure zero, and only for forwards that are
rectangular throughout: an operator that counts positions (a strided slice) needs more than this.

What an operator *is* is known of a few: grouped convolutions are (group, channel) arrays, attention
is two matrix products around a softmax; softmax, layer, group, instance and RMS norms are their
formulas. Kernel taps and the rows of an embedding are no units. All else is a black box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, permutations
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from graphs.api import Network
from graphs.axes.dims import Axis, atoms, unit_index

Slice = tuple[str, int, int]
Cut = frozenset[Slice]

_CONVOLUTIONS = {"conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "grouped"}
_SUMMING = {"linear", "matmul", "__matmul__", "bmm", "mm", "einsum", *_CONVOLUTIONS}
_DRAWS = 2


@dataclass(frozen=True)
class Hole:
    """An operand of a recorded call: which array stood there."""

    array: str


@dataclass(frozen=True)
class Call:
    """One recorded call: the flat operands, with `Hole`s for arrays, and how to put them back."""

    function: Any
    operands: tuple[Any, ...]
    spec: pytree.TreeSpec
    results: tuple[str, ...]

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", str(self.function))

    @property
    def arrays(self) -> list[str]:
        return list(dict.fromkeys(o.array for o in self.operands if isinstance(o, Hole)))

    def run(self, values: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """The results for other operands."""
        leaves = [values[o.array].clone() if isinstance(o, Hole) else o for o in self.operands]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        result = self.function(*args, **kwargs)
        return [t for t in pytree.tree_leaves(result) if isinstance(t, torch.Tensor)]


@dataclass
class Tape(TorchFunctionMode):
    """Records the calls of a forward, with some operators written as what they are."""

    model: nn.Module
    calls: list[Call] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    values: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        TorchFunctionMode.__init__(self)
        self.ids: dict[int, str] = {}
        self.kernels: set[str] = set()
        self.vocabularies: set[str] = set()
        self.fresh = (f"%{i}" for i in count())
        for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers()):
            self.name(tensor, name)

    def name(self, tensor: torch.Tensor, name: str | None = None) -> str:
        name = name or next(self.fresh)
        self.ids[id(tensor)], self.values[name] = name, tensor
        self.shapes[name] = tuple(tensor.shape)
        return name

    def slices(self, name: str) -> list[Slice]:
        """Slices along every dimension of two or more positions that may hold units.

        The taps of a kernel and the rows of a vocabulary are told apart by number.
        """
        dims = self.shapes[name][:2] if name in self.kernels else self.shapes[name]
        first = 1 if name in self.vocabularies else 0
        return [(name, d, i) for d, n in enumerate(dims) if n > 1 and d >= first for i in range(n)]

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        written_out = _DEFINITIONS.get(function)
        if written_out is not None:
            with self:
                return written_out(*args, **kwargs)
        if function in _GROUPED:
            return self._convolution(function, *args, **kwargs)
        return self._record(function, args, kwargs)

    def _record(self, function, args, kwargs):
        leaves, spec = pytree.tree_flatten((args, kwargs))
        tensor = torch.Tensor
        operands = tuple(
            Hole(self.ids.get(id(x)) or self.name(x)) if isinstance(x, tensor) else x
            for x in leaves
        )
        result = function(*args, **kwargs)
        made = [t for t in pytree.tree_leaves(result) if isinstance(t, tensor)]
        if made:
            call = Call(function, operands, spec, tuple(self.name(t) for t in made))
            self.calls.append(call)
            if function is F.embedding:
                self.vocabularies.add(call.arrays[1])
            elif call.name in _CONVOLUTIONS:
                self.kernels.add(call.arrays[1])
        return result

    def _convolution(
        self, function, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1
    ):
        args = (weight, bias, stride, padding, dilation)
        if groups == 1:
            return self._record(function, (x, *args), {})

        def grouped(x, *args):
            y = function(x.flatten(1, 2), *args, groups)
            return y.unflatten(1, (groups, y.shape[1] // groups))

        with self:
            x = x.unflatten(1, (groups, x.shape[1] // groups))
        y = self._record(grouped, (x, *args), {})
        with self:
            return y.flatten(1, 2)


def _softmax(x, dim=-1, *args, **kwargs):
    e = torch.exp(x)
    return e / e.sum(dim, keepdim=True)


def _layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    dims = tuple(range(-len(normalized_shape), 0))
    x = x - x.mean(dims, keepdim=True)
    return _scaled(x * torch.rsqrt((x * x).mean(dims, keepdim=True) + eps), weight, bias)


def _rms_norm(x, normalized_shape, weight=None, eps=None):
    dims = tuple(range(-len(normalized_shape), 0))
    return _scaled(x * torch.rsqrt((x * x).mean(dims, keepdim=True) + 1e-6), weight, None)


def _group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    grouped = x.reshape(x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:])
    dims = tuple(range(2, grouped.dim()))
    grouped = grouped - grouped.mean(dims, keepdim=True)
    grouped = grouped * torch.rsqrt((grouped * grouped).mean(dims, keepdim=True) + eps)
    x = grouped.reshape(x.shape)
    shape = (1, -1, *(1,) * (x.dim() - 2))
    return _scaled(x, *(None if t is None else t.reshape(shape) for t in (weight, bias)))


def _instance_norm(x, running_mean=None, running_var=None, weight=None, bias=None, **kwargs):
    return _group_norm(x, x.shape[1], weight, bias)


def _scaled(x, weight, bias):
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **kwargs):
    if kwargs.get("enable_gqa") and q.shape[-3] != k.shape[-3]:
        k, v = (_repeated(t, q.shape[-3] // t.shape[-3]) for t in (k, v))
    return torch.matmul(_softmax(torch.matmul(q, k.transpose(-2, -1))), v)


def _repeated(t, times):
    b, h, n, d = t.shape
    return t.unsqueeze(2).expand(b, h, times, n, d).reshape(b, h * times, n, d)


_DEFINITIONS = {
    F.softmax: _softmax,
    torch.softmax: _softmax,
    torch.Tensor.softmax: _softmax,
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    F.group_norm: _group_norm,
    F.instance_norm: _instance_norm,
    F.scaled_dot_product_attention: _attention,
}
_GROUPED = {torch.conv1d, torch.conv2d}


class Oracle:
    """The smallest consistent cuts of a module, found by probing its forward call by call.

    Args:
        model: runs in evaluation mode; its values are not used, only its shapes and integers.
        inputs: tuple of arguments or dict of keywords.
        seed: of the probes.
    """

    def __init__(self, model: nn.Module, inputs: Any, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.tape = Tape(model.eval())
        borders = [t for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor)]
        names = [self.tape.name(t) for t in borders]
        with torch.no_grad(), self.tape:
            result = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
        outputs = pytree.tree_leaves(dict(result) if hasattr(result, "items") else result)
        names += [self.tape.ids[id(t)] for t in outputs if isinstance(t, torch.Tensor)]
        self.borders = frozenset(names)
        self.tensors = {n for n, _ in (*model.named_parameters(), *model.named_buffers())}
        # A slice that is cut needs one set of every tuple to be cut; an empty tuple forbids it.
        self.touch: dict[Slice, list[tuple[Cut, ...]]] = {}
        # A slice is cut when one of these sets is.
        self.partner: dict[Slice, list[Cut]] = {}
        for call in self.tape.calls:
            self._probe(call)
        self.blocked = self._block()
        self.watchers: dict[Slice, set[Slice]] = {}
        for cut, options in self.partner.items():
            for slice_ in (s for option in options for s in option):
                self.watchers.setdefault(slice_, set()).add(cut)

    def slices(self) -> list[Slice]:
        """Every slice of every parameter and buffer along a dimension of two or more positions."""
        return [s for name in sorted(self.tensors) for s in self.tape.slices(name)]

    def cuts(self, start: Slice) -> frozenset[Cut]:
        """The smallest consistent cuts that contain a slice, restricted to parameters and buffers.

        Empty when the slice cannot be cut at all.
        """
        found: list[Cut] = []
        for cut in self._search(frozenset(), [], [start], found):
            if not any(other <= cut for other in found):
                found[:] = [other for other in found if not cut <= other] + [cut]
        return frozenset(found)

    # Probing -------------------------------------------------------------------------------------

    def _probe(self, call: Call) -> None:
        arrays = [name for name in call.arrays if self._varies(name)]
        tied: set[Slice] = set()
        moving: set[Slice] = set()
        for name in arrays:
            for made, moved in zip(call.results, self._moves(call, name), strict=True):
                tied |= self._relate(name, made, moved)
                hits = (enumerate(positions) for positions in moved.values())
                moving |= {(made, dim, p) for hit in hits for dim, ps in hit for p in ps}
        copies = self._copies(call)
        for slice_ in moving - tied:
            if slice_[:2] not in copies:
                self.touch.setdefault(slice_, []).append(())  # mixed of everything
        if call.name in _SUMMING:
            for left, right in permutations(arrays, 2):
                self._partner(call, left, right)

    def _copies(self, call: Call) -> set[tuple[str, int]]:
        """Dimensions of the results along which all positions are the same (expanded)."""
        results = zip(call.results, call.run(self._draw(call)), strict=True)
        return {
            (made, dim)
            for made, value in results
            for dim in range(value.dim())
            if bool((value == value.narrow(dim, 0, 1)).all())
        }

    def _varies(self, name: str) -> bool:
        return self.tape.values[name].is_floating_point() or name in self.borders

    def _moves(self, call: Call, name: str) -> list[dict[Slice, list[set[int]]]]:
        """Result by result: slice of an operand → positions that it moves, by dimension."""
        slices = self.tape.slices(name)
        moved: list[dict[Slice, list[set[int]]]] = [
            {s: [set() for _ in self.tape.shapes[made]] for s in slices} for made in call.results
        ]
        for _ in range(_DRAWS if "max" in call.name else 1):
            values = self._draw(call)
            before = call.run(values)
            for slice_ in slices:
                after = call.run({**values, name: self._resampled(values[name], slice_)})
                for at, old, new in zip(moved, before, after, strict=True):
                    _mark(at[slice_], old, new)
        return moved

    def _relate(self, name: str, made: str, moved: dict[Slice, list[set[int]]]) -> set[Slice]:
        """Touch, both ways, between an operand and a result; returns the result's tied slices."""
        live = [set().union(*hits) for hits in zip(*moved.values(), strict=True)]
        back: dict[Slice, list[set[int]]] = {
            s: [set() for _ in self.tape.shapes[name]] for s in self.tape.slices(made)
        }
        alive: list[set[int]] = [set() for _ in self.tape.shapes[name]]
        for (_, dim, position), positions in moved.items():
            if any(positions):
                alive[dim].add(position)
            for along, hit in enumerate(positions):
                for met in hit:
                    if (made, along, met) in back:
                        back[made, along, met][dim].add(position)
        for slice_, positions in moved.items():
            options = self._options(made, positions, live)
            if options:
                self.touch.setdefault(slice_, []).append(options)
            elif any(positions) and alive[slice_[1]] == {slice_[2]}:
                self.touch.setdefault(slice_, []).append(())  # all there is of the result
        tied = set()
        for slice_, positions in back.items():
            options = self._options(name, positions, alive)
            if options:
                self.touch.setdefault(slice_, []).append(options)
                tied.add(slice_)
        return tied

    def _options(
        self, name: str, positions: list[set[int]], live: list[set[int]] | None = None
    ) -> tuple[Cut, ...]:
        """What may be cut of an array to cover the positions: dimensions that are not met whole."""
        wholes = live or [set(range(n)) for n in self.tape.shapes[name]]
        return tuple(
            frozenset((name, dim, p) for p in hit)
            for dim, (hit, whole) in enumerate(zip(positions, wholes, strict=True))
            if hit and hit != whole
        )

    def _partner(self, call: Call, one: str, other: str) -> None:
        """What of an operand a slice of another one is multiplied with.

        Move the slice: what it is multiplied with sees another slope. Addends (biases) do not.
        """
        values = self._draw(call)
        before = self._slope(call, values, other)
        for slice_ in self.tape.slices(one):
            moved = {**values, one: self._resampled(values[one], slice_)}
            positions: list[set[int]] = [set() for _ in before.shape]
            _mark(positions, before, self._slope(call, moved, other))
            self.partner.setdefault(slice_, []).extend(self._options(other, positions))

    def _slope(self, call: Call, values: dict[str, torch.Tensor], name: str) -> torch.Tensor:
        """Gradient of a fixed weighted sum of the result; same shape as the operand."""
        at = values[name].requires_grad_()
        result = call.run(values)[0]
        weights = torch.linspace(1, 2, result.numel(), dtype=result.dtype).reshape(result.shape)
        (slope,) = torch.autograd.grad((result * weights).sum(), at)
        at.requires_grad_(False)
        return slope

    def _draw(self, call: Call) -> dict[str, torch.Tensor]:
        """Random operands in (0.2, 0.9), where no activation is flat; indices stay in range."""
        return {name: self._sample(self.tape.values[name]) for name in call.arrays}

    def _sample(self, like: torch.Tensor) -> torch.Tensor:
        if like.dtype == torch.int64 and like.numel() > 1:
            low, high = int(like.min()), int(like.max()) + 1
            return torch.randint(low, high, like.shape, generator=self.generator)
        if not like.is_floating_point():
            return like
        drawn = torch.rand(like.shape, generator=self.generator, dtype=torch.float64)
        return 0.2 + 0.7 * drawn

    def _resampled(self, value: torch.Tensor, slice_: Slice) -> torch.Tensor:
        _, dim, position = slice_
        value = value.clone()
        at = value.select(dim, position)
        if value.is_floating_point():
            at.copy_(self._sample(at))
        else:  # another index, for certain
            low, span = int(value.min()), int(value.max() - value.min()) + 1
            at.copy_((at - low + 1) % span + low)
        return value

    def _block(self) -> set[Slice]:
        """Slices that no consistent cut contains; what would need one is taken off the options."""
        blocked = {s for name in self.borders for s in self.tape.slices(name)}
        grows = True
        while grows:
            grows = False
            for slice_, demands in self.touch.items():
                if slice_ in blocked:
                    continue
                demands[:] = [
                    tuple(option for option in options if blocked.isdisjoint(option))
                    for options in demands
                ]
                if not all(demands):
                    blocked.add(slice_)
                    grows = True
        return blocked

    # Searching -----------------------------------------------------------------------------------

    def _search(
        self,
        cut: frozenset[Slice],
        choices: list[tuple[Cut, ...]],
        new: list[Slice],
        found: list[Cut],
    ) -> Iterator[Cut]:
        """Consistent cuts that contain `cut` and `new`: forced steps first, then by choice.

        Branches that contain a cut in `found` already are left.
        """
        grown, choices, stack = set(cut), list(choices), list(new)
        while stack:
            slice_ = stack.pop()
            if slice_ in grown:
                continue
            if slice_ in self.blocked:
                return
            grown.add(slice_)
            for options in self.touch.get(slice_, ()):
                if len(options) == 1:
                    stack.extend(options[0])
                else:
                    choices.append(options)
            for watcher in self.watchers.get(slice_, ()):
                if watcher not in grown and any(o <= grown for o in self.partner[watcher]):
                    stack.append(watcher)
        if any(self._emptied(*d, grown) for d in {s[:2] for s in grown - cut}):
            return
        choices = [c for c in choices if not any(option <= grown for option in c)]
        seen = frozenset(s for s in grown if s[0] in self.tensors)
        if not choices:
            yield seen
        if not choices or any(other <= seen for other in found):
            return
        for option in choices[0]:
            yield from self._search(frozenset(grown), choices, list(option), found)

    def _emptied(self, name: str, dim: int, cut: set[Slice]) -> bool:
        return all((name, dim, i) in cut for i in range(self.tape.shapes[name][dim]))


def _mark(positions: list[set[int]], before: torch.Tensor, after: torch.Tensor) -> None:
    """Add the positions where two results differ."""
    changed = (before - after).abs() > 1e-9 if before.is_floating_point() else before != after
    for dim in range(changed.dim()):
        others = [d for d in range(changed.dim()) if d != dim]
        hit = changed.any(others) if others else changed
        positions[dim].update(hit.nonzero().flatten().tolist())


@dataclass(frozen=True)
class Verdict:
    """Where a network and the oracle disagree, in sentences.

    Attributes:
        missing: units whose removal leaves something behind that must go as well.
        excess: units that could be cut in smaller parts.
        lost: what could be cut and is frozen: sentence → reason of the freeze.
    """

    missing: tuple[str, ...]
    excess: tuple[str, ...]
    lost: dict[str, str]


def judge(net: Network, oracle: Oracle) -> Verdict:
    """Compare every unit of every axis with the smallest consistent cuts through its slices."""
    units = {s: (axis, u) for axis in net.axes.values() for u, s in enumerate(_units(net, axis))}
    cuts = {cut for s in oracle.slices() for cut in oracle.cuts(s)}
    missing, excess, lost = [], [], {}
    for unit, (axis, u) in units.items():
        if axis.frozen or unit in cuts:
            continue
        smaller = [cut for cut in cuts if cut < unit]
        if smaller:
            rest = _places(unit - min(smaller, key=len))
            excess.append(f"unit {u} of {axis.name} need not take {rest} with it")
            continue
        larger = [cut - unit for cut in cuts if cut & unit]
        rest = _places(min(larger, key=len)) if larger else "inputs or outputs of the model"
        missing.append(f"unit {u} of {axis.name} ({_places(unit)}) cannot go without {rest}")
    for cut in cuts - units.keys():
        if any(cut & unit for unit, (axis, _) in units.items() if not axis.frozen and unit < cut):
            continue  # said above
        lost[_places(cut)] = _reason(net, cut)
    for cut, (axis, _) in units.items():
        if axis.frozen and cut in cuts:
            lost[_places(cut)] = axis.frozen
    return Verdict(tuple(missing), tuple(excess), lost)


def _units(net: Network, axis: Axis) -> list[Cut]:
    units: list[set[Slice]] = [set() for _ in range(axis.size)]
    for name, tensor in net.tensors.items():
        for dim, along in enumerate(tensor.dims):
            for position, unit in enumerate(unit_index(along, axis.name, net.axes).tolist()):
                if unit >= 0:
                    units[unit].add((name, dim, position))
    return [frozenset(u) for u in units]


def _places(cut: Cut) -> str:
    return ", ".join(f"{name}[{':, ' * dim}{i}]" for name, dim, i in sorted(cut))


def _reason(net: Network, cut: Cut) -> str:
    names = {a for name, dim, _ in cut for a in atoms(net.tensors[name].dims[dim])}
    reasons = {net.axes[name].frozen or f"{name} is free" for name in names}
    return "; ".join(sorted(reasons)) or "positions without units"
