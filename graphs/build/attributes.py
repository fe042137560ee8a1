"""Attributes that restate the shapes of tensors, brought in line with the new shapes.

A module says its sizes twice: in its tensors and in attributes that its forward reads (`num_heads`,
`split_size`, `config.hidden_size`). Which axis an attribute restates is told by its value, by the
sizes that its module's calls and tensors run along, and, where several fit, by its name: `head_dim`
is a number of features, `num_key_value_groups` one of query heads. Names decide nothing alone:
`graphs.build.rebuild` runs the forward and tries the next reading where it disagrees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from torch import nn

from graphs.axes.dims import Atom, Dim, Prod, Sum, atoms, size
from graphs.build.layers import stated
from graphs.relate.structure import Structure
from graphs.rules.context import Extent, Pinned


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words of names that state no width, whatever their value, unless the last word says otherwise
# (`time_step_rank`).
NEVER = _set(
    "idx index id ids layer layers depth level stage stages kernel stride strides padding pad "
    "dilation token tokens position positions max min len length seed version iteration iterations "
    "steps step epoch epochs batch vocab image img window patch chunk block top"
)
NOUNS = _set("rank dim dims channel channels feature features head heads")
# Words that a width's name has; other attributes are changed only where the forward needs it.
WIDTHS = _set(
    "head heads dim dims channel channels chans feature features size sizes width widths hidden "
    "embd embed embedding planes inplanes filters group groups rep experts inner intermediate "
    "inter ffn ff mlp shape split splits rank d units model kv in out state chs"
)

# What a name asks for, by the first pattern that it holds: kinds of evidence, the best first.
_READINGS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(pattern), tuple(order.split()))
    for pattern, order in (
        (r"all_head|inner_dim|inner_size|proj_size|split_size|attn_dim", "joint local stream"),
        (r"group|n_?rep|per_kv", "inner heads fewest local stream"),
        (r"(kv|key_value).*head|head.*(kv|key_value)", "fewest heads"),
        (r"head.*(dim|size|feat|width|chan)|(dim|size|d|feat).*head|d_?kv|d_?[qkv]$", "feature"),
        (r"head", "heads fewest"),
        (r"inter|inner|ffn|mlp|d_?ff|expan", "local joint stream"),
        (r"", "call stream joint local feature heads fewest inner"),
    )
)


class Repair(NamedTuple):
    """An attribute that was changed: of the module at `path`, or of the shared `config`."""

    path: str
    field: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Evidence:
    """A size that a module uses: its number of positions before and after, and what they are.

    Args:
        old, new: number of positions; a list of them where a call takes a list.
        kind: `call` (an argument of a call), `stream` (an axis that many modules share), `local`
            (another axis), `heads` (all heads of a projection), `fewest` (all heads of a projection
            that has fewer), `inner` (heads of a group), `feature` (features of a head), `joint`
            (heads × features), `flow` (of a value that its calls take or give) or `deep` (of a
            module further down).
    """

    old: Any
    new: Any
    kind: str


Found = Mapping[str, Sequence[Evidence]]


def evidence(net: Structure) -> dict[str, list[Evidence]]:
    """Module path → every size that its calls, its tensors and those of modules in it run along."""
    before, after = net.source.axes, net.axes
    found: dict[str, dict[Evidence, None]] = {}

    def see(path: str, dim: Dim, kind: str) -> None:
        entry = Evidence(size(dim, before), size(dim, after), kind)
        found.setdefault(path, {})[entry] = None

    for path, dims in _arguments(net):
        for dim in dims:
            see(path, dim, "call")
        if len(dims) > 1:
            old, new = (tuple(size(d, axes) for d in dims) for axes in (before, after))
            found[path][Evidence(old, new, "call")] = None
    spread: dict[str, set[str]] = {}
    own: dict[str, dict[Dim, None]] = {}
    for alias, name in net.source.aliases.items():
        path = alias.rpartition(".")[0]
        for dim in net.tensors[name].dims:
            own.setdefault(path, {})[dim] = None
            for axis in atoms(dim):
                spread.setdefault(axis, set()).add(path.rpartition(".")[0])
    for path, runs_along in own.items():
        seen = [part for dim in runs_along for part in _parts(dim, net, spread)]
        near = (path, path.rpartition(".")[0])
        for holder in dict.fromkeys((*near, *_around(near[1]))):
            for part, kind in seen:
                see(holder, part, kind if holder in near else "deep")
    for path, dim in _flows(net):
        see(path, dim, "flow")
    return {path: _ranked(list(entries)) for path, entries in found.items()}


def _flows(net: Structure) -> Iterator[tuple[str, Dim]]:
    """(module path, dimension) of the values that a module's own calls take or give."""
    program = net.program
    for node in program.graph.nodes:
        if node.name in program.modules:
            for value in (node, *node.all_input_nodes):
                for dim in program.dims.get(value.name, ()):
                    if atoms(dim):
                        yield program.modules[node.name], dim


def _arguments(net: Structure) -> Iterator[tuple[str, list[Dim]]]:
    """(module path, dimensions) of every argument of a call that states sizes."""
    for node, given in net.program.arguments.items():
        for value in given.values():
            leaves = value if isinstance(value, list | tuple) else (value,)
            dims = [leaf.dim for leaf in leaves if isinstance(leaf, Extent | Pinned)]
            if dims:
                yield net.program.modules.get(node, ""), dims


def _around(path: str) -> Iterator[str]:
    """Paths of the modules around one, inside out."""
    while path:
        path = path.rpartition(".")[0]
        yield path


def _parts(dim: Dim, net: Structure, spread: Mapping[str, set[str]]) -> Iterator[tuple[Dim, str]]:
    """The pieces of a dimension that code names, with their kind."""
    if isinstance(dim, Sum):
        yield dim, "joint"
        for term in dim.terms:
            yield from _parts(term, net, spread)
    elif isinstance(dim, Atom):
        head = net.axes[dim.axis].kind == "head"
        yield dim, "heads" if head else "stream" if len(spread[dim.axis]) > 2 else "local"
    elif isinstance(dim, Prod):
        factors = dim.factors
        last = len(factors) - 1
        heads = (
            next((i for i, f in enumerate(factors) if not _is_head(f, net)), last) or 1
        )  # a product that starts with no head counts its first factor as one
        for i in range(len(factors)):
            for j in range(i + 1, len(factors) + 1):
                part = factors[i] if j == i + 1 else Prod(factors[i:j])
                if (i, j) == (0, heads):
                    yield part, "heads"
                elif j <= heads:
                    yield part, "inner" if i else "fewest"
                elif i >= heads:
                    yield part, "feature"
                else:
                    yield part, "joint"


def _is_head(dim: Dim, net: Structure) -> bool:
    return isinstance(dim, Atom) and net.axes[dim.axis].kind == "head"


def _ranked(entries: list[Evidence]) -> list[Evidence]:
    """Of several numbers of heads, only the largest is that of the queries."""
    most = max((e.old for e in entries if e.kind == "heads"), default=0)
    return [
        Evidence(e.old, e.new, "fewest") if e.kind == "heads" and e.old < most else e
        for e in entries
    ]


@cache
def words(name: str) -> tuple[str, ...]:
    """The words of an attribute's name: `num_kv_heads` → num, kv, heads."""
    return tuple(re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower().split("_"))


@cache
def is_width(name: str) -> bool | None:
    """Whether a name says that it states a width; None where it says that it states none."""
    found = words(name)
    if found[-1] in NOUNS:
        return True
    if NEVER.intersection(found):
        return None
    # Some run words together: `pdim`, `nheads`.
    return not WIDTHS.isdisjoint(found) or found[-1].endswith(tuple(NOUNS))


def readings(name: str, value: Any, entries: Sequence[Evidence]) -> list[Any]:
    """New values that an attribute may take, the likeliest first; empty where nothing fits.

    Args:
        name: of the attribute.
        value: an integer, or a tuple or list of integers.
        entries: what its module uses.
    """
    order = reading_order(name)
    entries = sorted(entries, key=lambda e: order.index(e.kind) if e.kind in order else len(order))
    if isinstance(value, list | tuple):
        by_value = {e.old: e.new for e in reversed(entries)}
        whole = by_value.get(tuple(value), ())
        each = [by_value.get(v, v) for v in value]
        found = [type(value)(v) for v in (whole, each) if v]
    else:
        found = [e.new for e in entries if e.old == value]
    return [new for i, new in enumerate(found) if new not in found[:i]]


def reading_order(name: str) -> tuple[str, ...]:
    """Kinds of evidence that a name asks for, the best first."""
    return next(kinds for pattern, kinds in _READINGS if pattern.search(name.lower()))


def is_size(value: Any) -> bool:
    """Whether a value could restate sizes: an integer above 1, or a short sequence of integers."""
    if isinstance(value, list | tuple):
        whole = all(isinstance(v, int) and not isinstance(v, bool) for v in value)
        return 0 < len(value) <= 16 and whole and max(value) > 1
    return isinstance(value, int) and not isinstance(value, bool) and value > 1


def may_restate(net: Structure) -> bool:
    """Whether any attribute of the traced module may restate a size, so that evidence counts.

    Torch's own layers say the sizes of their tensors only, which `graphs.build.layers` reads off;
    names that state no width count where calls state sizes.
    """
    if net.program.arguments:
        return True
    modules = list(net.source.model.modules())
    names = set().union(*map(vars, modules))
    widths = [name for name in names if name[0] != "_" and is_width(name) is not None]
    for module in modules:
        sized = {name for name in widths if is_size(vars(module).get(name))}
        if sized and not sized <= stated(module).keys():
            return True
    return False


@dataclass(frozen=True)
class Field:
    """All attributes of one name that a size that changed may stand in, in every module.

    Args:
        name: of the attribute.
        named: whether the name says that it is a width. Where it does not, the attribute changes
            only if the forward asks; where it says that it is none (None), only after all others.
        values: (module path, old value, readings) of each.
    """

    name: str
    named: bool | None
    values: tuple[tuple[str, Any, tuple[Any, ...]], ...]

    @property
    def choices(self) -> int:
        """Number of readings of the most ambiguous one."""
        return max(len(found) for _, _, found in self.values)

    def repairs(self, choice: int) -> list[Repair]:
        """What the `choice`-th reading changes; where a module has fewer, its last."""
        picked = ((p, old, new[min(choice, len(new) - 1)]) for p, old, new in self.values)
        return [Repair(path, self.name, old, new) for path, old, new in picked if new != old]


def fields(model: nn.Module, found: Found) -> list[Field]:
    """The attributes of all modules that may restate a size that changed."""
    gathered: dict[str, list[tuple[str, Any, tuple[Any, ...]]]] = {}
    for path, module in model.named_modules():
        entries = found.get(path)
        if not entries:
            continue
        changed = {e.old for e in entries if e.old != e.new}
        called = {e.old for e in entries if e.old != e.new and e.kind == "call"}
        sizes_of = {n: v for n, v in vars(module).items() if n[0] != "_" and is_size(v)}
        known = stated(module) if sizes_of else {}
        for name, value in sizes_of.items():
            if name in known:
                continue
            width = is_width(name)
            sizes = changed if width else called
            parts = {tuple(value), *value} if isinstance(value, list | tuple) else {value}
            new = tuple(readings(name, value, entries)) if parts & sizes else ()
            if any(v != value for v in new):
                gathered.setdefault(name, []).append((path, value, new))
    return [Field(name, is_width(name), tuple(values)) for name, values in gathered.items()]
