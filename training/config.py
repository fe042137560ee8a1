"""Configuration stops at the door: mappings become typed values, mistakes are errors.

A setting is what its annotation says, or the error names it in full, says what it takes and what
it got. Nothing is converted but what YAML cannot say: "1e-3" is text to YAML 1.1 and a whole number
is a number, a list may stand for a tuple, a text for a path or for a member of an enumeration, and
a mapping for a dataclass. The annotations are checked here and not by OmegaConf's structured
configs, which know no unions of a text and a mapping, no tuples and no sequences, and which turn
any number or truth value into a text without a word.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from graphs.tools.registry import unknown
from training.annotations import is_union, words

T = TypeVar("T")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
SHOWN = 80
"""Characters of a wrong value that are shown."""


class SettingError(ValueError):
    """A setting that is unknown, missing, or not what it takes.

    Args:
        name: of the setting, in full: `finetune.lr`.
        message: a sentence that begins with the name.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(name, message)
        self.name, self.message = name, message

    def __str__(self) -> str:
        return self.message


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """Build a configuration dataclass from a mapping, such as a composed YAML file.

    `from_mapping(cls, asdict(x)) == x`. A mapping inside that stands for a dataclass replaces
    only the fields that it names: the others are those of the field's default.

    Args:
        cls: a dataclass; its annotations must resolve at run time.
        mapping: field name → value.
        where: full name of the mapping among the settings, for errors: `finetune`; empty for the
            whole.

    Raises:
        SettingError: a name that is no field, a missing field, or a value that is not what the
            field takes; a ValueError.
        ValueError: what the class itself refuses, with its full name.
    """
    built: T = _built(cls, mapping, where, None)
    return built


def arguments(
    function: Callable[..., Any], options: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Options checked against the annotated keyword arguments of a function.

    Args:
        function: arguments without an annotation take anything; with `**options` of its own it
            takes any name.
        options: argument name → value.
        where: what the options belong to, for errors.

    Returns:
        The options, converted as in `from_mapping`.

    Raises:
        SettingError: a name that is no argument, a missing argument, or a value that is not what
            the argument takes; a ValueError.
    """
    hints = get_type_hints(function)
    takes = dict(inspect.signature(function).parameters)
    anything = [name for name, p in takes.items() if p.kind is p.VAR_KEYWORD]
    for name in anything:
        takes.pop(name), hints.pop(name, None)
    if not anything:
        check_names(options, takes, where)
    for name, parameter in takes.items():
        if parameter.default is parameter.empty and name not in options:
            raise _missing(_full(where, name), hints.get(name, Any))
    return {
        name: _fitted(value, hints.get(name, Any), _full(where, name))
        for name, value in options.items()
    }


def called(function: Callable[..., T], options: Mapping[str, Any], name: str) -> T:
    """What a function returns for its options.

    Args:
        function: of any package; its annotations may say nothing.
        options: its keyword arguments.
        name: of what it makes, for errors: `model 'resnet50'`.

    Raises:
        ValueError: the function does not take these options, or cannot work with them.
    """
    try:
        return function(**options)
    except TypeError as error:
        raise ValueError(f"{name} cannot be built: {error}") from error


def check_positive(settings: object, *names: str) -> None:
    """Refuse whole numbers of a configuration that are below 1.

    Args:
        settings: a dataclass.
        names: of its fields.

    Raises:
        ValueError: naming the field and what it holds.
    """
    for name in names:
        if getattr(settings, name) < 1:
            raise ValueError(f"{name} must be at least 1 (got {getattr(settings, name)})")


def check_names(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse a setting that does not exist.

    Raises:
        SettingError: naming it in full, those there are, and the nearest; a ValueError.
    """
    names = list(known)
    for name in given:
        if name not in names:
            full = _full(where, str(name))
            sentence = unknown("setting", name, names)
            raise SettingError(full, f"{full}: {sentence}" if where else sentence)


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise a ValueError unless a setting has one of the allowed values."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)} (got {value!r})")


def _built(cls: Any, mapping: Mapping[str, Any], where: str, base: object) -> Any:
    """As `from_mapping`; fields that are not given are those of `base`, if it is of the class."""
    if not isinstance(mapping, Mapping):
        raise _mistyped(where or cls.__name__, cls, mapping)
    hints = get_type_hints(cls, include_extras=True)
    own = {field.name: field for field in fields(cls) if field.init}
    check_names(mapping, own, where)
    values: dict[str, Any] = {}
    for name, field in own.items():
        full = _full(where, name)
        default = field.default_factory() if callable(field.default_factory) else field.default
        if isinstance(base, cls):
            default = getattr(base, name)
        if name in mapping:
            values[name] = _fitted(mapping[name], hints[name], full, default)
        elif default is MISSING:
            raise _missing(full, hints[name])
        else:
            values[name] = default
    try:
        return cls(**values)
    except SettingError:
        raise
    except ValueError as error:
        if not where:
            raise
        named = str(error).split(" ", 1)[0] in own
        raise ValueError(f"{where}{'.' if named else ': '}{error}") from error


def _fitted(value: Any, annotation: Any, name: str, base: Any = None, exact: bool = False) -> Any:
    """The value as its annotation wants it.

    Args:
        value: as given.
        annotation: resolved.
        name: of the setting, in full.
        base: the setting's default; what a mapping for a dataclass changes.
        exact: convert nothing: of several types, the one that the value has goes first.

    Raises:
        SettingError: the value is not of the type.
    """
    kind, inner = get_origin(annotation) or annotation, get_args(annotation)
    if annotation is Any or (annotation is None and value is None):
        return value
    if kind is Annotated:
        return _fitted(value, inner[0], name, base, exact)
    if is_union(annotation):
        return _chosen(value, annotation, name, base)
    if kind is Literal:
        for choice in inner:
            if type(value) is type(choice) and value == choice:
                return value
        raise _mistyped(name, annotation, value)
    if kind in (bool, int, float, str, NoneType):
        return _scalar(value, kind, name, exact)
    if is_dataclass(kind) and isinstance(value, Mapping):
        return _built(kind, value, name, base)
    if not isinstance(value, kind) and not exact:
        value = _converted(value, kind, name)
    spelled = issubclass(kind, Sequence) and isinstance(value, (str, bytes))  # no list of letters
    if not isinstance(value, kind) or spelled:
        raise _mistyped(name, annotation, value)
    return _items(value, annotation, kind, inner, name, exact)


def _chosen(value: Any, annotation: Any, name: str, base: Any) -> Any:
    """The value as the first type of a union that has it, else that it converts to."""
    errors = []
    for exact in (True, False):
        for part in get_args(annotation):
            try:
                return _fitted(value, part, name, base, exact)
            except SettingError as error:
                errors.append(error)
    inside = [error for error in errors if error.name != name]
    raise inside[-1] if inside else _mistyped(name, annotation, value)


def _scalar(value: Any, kind: type, name: str, exact: bool) -> Any:
    """A truth value, number, text or null; a truth value is not a number."""
    truth = isinstance(value, bool)
    if kind is int and isinstance(value, Integral) and not truth:
        return int(value)
    if kind is float and isinstance(value, Real) and not truth:
        if not exact or isinstance(value, float):
            return float(value)
    elif kind is float and isinstance(value, str) and not exact and NUMBER.fullmatch(value):
        return float(value)
    elif kind not in (int, float) and isinstance(value, kind):
        return value
    raise _mistyped(name, kind, value)


def _converted(value: Any, kind: type, name: str) -> Any:
    """What stands in YAML for a path, a tuple, a list or a member of an enumeration."""
    if isinstance(value, str) and issubclass(kind, Path):
        return kind(value)
    if issubclass(kind, Enum):
        found = [m for m in kind if value in (m.name, m.value) and not isinstance(value, bool)]
        return found[0] if found else value
    if (
        kind in (tuple, list)
        and isinstance(value, Sequence)
        and not isinstance(value, (str, bytes))
    ):
        return kind(value)
    return value


def _items(value: Any, annotation: Any, kind: Any, inner: Any, name: str, exact: bool) -> Any:
    """A list, tuple or mapping with its items as they are annotated; anything else as it is."""
    if not inner:
        return value
    if issubclass(kind, Mapping):
        return {
            _fitted(key, inner[0], name, exact=exact): _fitted(
                item, inner[1], _full(name, str(key)), exact=exact
            )
            for key, item in value.items()
        }
    if not issubclass(kind, Sequence):
        return value
    parts = [inner[0]] * len(value) if kind is not tuple or inner[-1] is ... else list(inner)
    if len(parts) != len(value):
        raise _mistyped(name, annotation, value)
    items = [
        _fitted(item, part, f"{name}[{index}]", exact=exact)
        for index, (item, part) in enumerate(zip(value, parts, strict=True))
    ]
    return tuple(items) if isinstance(value, tuple) else items


def _full(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _missing(name: str, annotation: Any) -> SettingError:
    return SettingError(name, f"{name} is missing: it takes {words(annotation)}")


def _mistyped(name: str, annotation: Any, value: Any) -> SettingError:
    hint = ""
    if annotation is str:
        hint = "; put a text that reads as something else in quotes"
    elif get_origin(annotation) is Literal:
        close = get_close_matches(str(value), map(str, get_args(annotation)), n=1)
        hint = f'; did you mean "{close[0]}"?' if close else ""
    return SettingError(name, f"{name} takes {words(annotation)} (got {_short(value)}{hint})")
