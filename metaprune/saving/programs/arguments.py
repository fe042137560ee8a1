"""Arguments of calls, and the structure of inputs and outputs, as plain JSON values and back.

Texts, truth values, whole and finite numbers, null and lists stand for themselves; everything else
is a mapping of one key, which says what it is: `{"node": 3}`, `{"dtype": "float32"}`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.uint16, torch.uint32, torch.uint64),
        *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
        *(torch.complex32, torch.complex64, torch.complex128),
    )
}
FORMATS = {
    str(form).removeprefix("torch."): form
    for form in (
        *(torch.contiguous_format, torch.preserve_format),
        *(torch.channels_last, torch.channels_last_3d),
    )
}
LEAF = "*"
OUTPUTS = "transformers.modeling_outputs."
"""Names of outputs whose module is imported for them."""
DEEPEST = 32
"""Most levels of nesting."""


def written(value: Any, number: Callable[[fx.Node], int]) -> Any:
    """An argument as JSON.

    Args:
        value: of a node, or a constant.
        number: node → its place in the graph.

    Raises:
        ValueError: something that is no data.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, fx.Node):
        return {"node": number(value)}
    if isinstance(value, list):
        return [written(entry, number) for entry in value]
    if isinstance(value, tuple):
        return {"tuple": [written(entry, number) for entry in value]}
    if isinstance(value, dict):
        return {"dict": {_text(key): written(entry, number) for key, entry in value.items()}}
    if isinstance(value, slice):
        parts = (value.start, value.stop, value.step)
        return {"slice": [written(part, number) for part in parts]}
    if isinstance(value, complex):
        return {"complex": [written(value.real, number), written(value.imag, number)]}
    if isinstance(value, torch.device):
        return {"device": "own"}
    for word, table in (("dtype", DTYPES), ("format", FORMATS)):
        name = str(value).removeprefix("torch.")
        if table.get(name) is value:
            return {word: name}
    if value is torch.strided:
        return {"layout": "strided"}
    raise ValueError(f"a graph with {value!r:.80} in it cannot be written as data")


def read(value: Any, nodes: list[fx.Node], depth: int = 0) -> Any:
    """An argument from JSON.

    Args:
        value: as `written` says it.
        nodes: before the one that it is of.
        depth: of nesting around it.

    Raises:
        ValueError: it is none.
    """
    if depth > DEEPEST:
        raise ValueError("an argument is nested too deeply")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [read(entry, nodes, depth + 1) for entry in value]
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(f"an argument cannot be read (got {value!r:.80})")
    ((word, held),) = value.items()

    def parts(count: int | None = None) -> list[Any]:
        if not isinstance(held, list) or count not in (None, len(held)):
            raise ValueError(f"an argument cannot be read (got {value!r:.80})")
        return [read(entry, nodes, depth + 1) for entry in held]

    if word == "node":
        if type(held) is not int or not 0 <= held < len(nodes):
            raise ValueError(f"a call reads the result of a later one (got {held!r:.80})")
        return nodes[held]
    if word == "tuple":
        return tuple(parts())
    if word == "dict" and isinstance(held, dict):
        return {key: read(entry, nodes, depth + 1) for key, entry in held.items()}
    if word == "slice":
        return slice(*parts(3))
    if word == "complex":
        return complex(*map(float, parts(2)))
    if word == "float" and held in ("inf", "-inf", "nan"):
        return float(held)
    if word == "device":
        return torch.device("cpu")
    if word == "layout" and held == "strided":
        return torch.strided
    for name, table in (("dtype", DTYPES), ("format", FORMATS)):
        if word == name and isinstance(held, str) and held in table:
            return table[held]
    raise ValueError(f"an argument cannot be read (got {value!r:.80})")


def written_spec(spec: pytree.TreeSpec) -> Any:
    """The structure of inputs or outputs as JSON.

    Raises:
        ValueError: an object in it is none that torch knows how to take apart as data.
    """
    if spec.is_leaf():
        return LEAF
    inside = [written_spec(child) for child in spec.children()]
    if spec.type in (tuple, list):
        return {spec.type.__name__: inside}
    if spec.type is dict:
        return {"dict": dict(zip(map(_text, spec.context), inside, strict=True))}
    known = pytree.SUPPORTED_SERIALIZED_TYPES.get(spec.type)
    name = None if known is None else known.serialized_type_name
    if not isinstance(name, str) or not _plain(spec.type):
        raise ValueError(
            f"a model that takes or returns a {spec.type.__name__} cannot be written as a graph; "
            "let it return a tuple or a dict, or say how it is built: save(folder, source=...)"
        )
    return {"object": [name, written(spec.context, _no_node), inside]}


def read_spec(value: Any, depth: int = 0) -> pytree.TreeSpec:
    """The structure of inputs or outputs from JSON.

    Raises:
        ValueError: it is none.
    """
    if depth > DEEPEST:
        raise ValueError("the inputs or outputs are nested too deeply")
    if value == LEAF:
        return pytree.treespec_leaf()
    if isinstance(value, dict) and len(value) == 1:
        ((word, held),) = value.items()
        if word in ("tuple", "list") and isinstance(held, list):
            inside = [read_spec(child, depth + 1) for child in held]
            return pytree.TreeSpec(tuple if word == "tuple" else list, None, inside)
        if word == "dict" and isinstance(held, dict):
            inside = [read_spec(child, depth + 1) for child in held.values()]
            return pytree.TreeSpec(dict, list(held), inside)
        if word == "object" and isinstance(held, list) and len(held) == 3:
            name, context, inside = held
            if isinstance(inside, list):
                children = [read_spec(child, depth + 1) for child in inside]
                return pytree.TreeSpec(_kind(name), read(context, []), children)
    raise ValueError(f"the structure of inputs or outputs cannot be read (got {value!r:.80})")


def _kind(name: Any) -> type:
    """A type that torch takes apart, by its name; of those that are known in this process."""
    if isinstance(name, str) and name.startswith(OUTPUTS):
        import transformers.modeling_outputs  # noqa: F401  (they register themselves)
    found = pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE.get(name) if isinstance(name, str) else None
    if not isinstance(found, type) or not _plain(found):
        raise ValueError(
            f"the model takes or returns a {name!r:.80}, which is not known here: import the "
            "module that defines it first"
        )
    return found


def _plain(kind: type) -> bool:
    """Whether putting an object together runs nothing but its own constructor, over its fields."""
    return issubclass(kind, dict) or is_dataclass(kind)


def _text(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"a mapping with the key {key!r:.80} cannot be written as data")
    return key


def _no_node(node: fx.Node) -> int:
    raise ValueError("a structure holds no nodes")
