"""Settings at the door: what an annotation says is taken, everything else is refused by name."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from training.annotations import is_union, words
from training.config import SettingError, arguments, from_mapping, one_of


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    lr: float = 0.1
    epochs: int = 3

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1 (got {self.epochs})")


@dataclass(frozen=True)
class Outer:
    folder: Path
    fit: Inner = field(default_factory=lambda: Inner(lr=0.02))
    other: Inner | None = None
    flag: bool = False
    rate: float | None = None
    few: float | int = 0.05
    repair: bool | str = True
    budget: str | Mapping[str, Any] | None = None
    compare: Sequence[str | Mapping[str, Any]] = ()
    shape: tuple[int, ...] = ()
    mean: tuple[float, float] = (0.0, 1.0)
    sizes: list[int] = field(default_factory=list)
    overrides: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    device: Literal["auto", "cpu"] = "auto"
    colour: Colour = Colour.RED
    anything: Any = None


def found_settings() -> list[type]:
    """Every dataclass of settings in the repository."""
    found = {}
    for package in ("training", "metaprune"):
        root = importlib.import_module(package)
        for module in pkgutil.walk_packages(root.__path__, f"{package}."):
            if module.name.endswith("__main__"):
                continue
            for name, thing in vars(importlib.import_module(module.name)).items():
                named = name.endswith(("Config", "Settings")) and is_dataclass(thing)
                if named and thing.__module__ == module.name:
                    found[f"{module.name}.{name}"] = thing
    return [found[name] for name in sorted(found)]


SETTINGS = [Outer, *found_settings()]
FIELDS = [(cls, f.name) for cls in SETTINGS for f in fields(cls) if f.init]


def fitting(annotation: Any) -> st.SearchStrategy[Any]:
    """Values that an annotation takes as they are."""
    kind, inner = get_origin(annotation) or annotation, get_args(annotation)
    simple = {
        Any: st.none() | st.integers(),
        bool: st.booleans(),
        int: st.integers(),
        float: st.floats(allow_nan=False),
        str: st.text(),
        type(None): st.none(),
        Path: st.just(Path("folder")),
    }
    if kind in simple:
        return simple[kind]
    if is_union(annotation):
        return st.one_of(*map(fitting, inner))
    if kind is Literal:
        return st.sampled_from(inner)
    if is_dataclass(kind):
        return st.just(built(kind))
    if kind is tuple and inner[-1] is not ...:
        return st.tuples(*map(fitting, inner))
    if kind is tuple:
        return st.lists(fitting(inner[0]), max_size=3).map(tuple)
    if issubclass(kind, Mapping):
        return st.dictionaries(st.text("abc", min_size=1), fitting(inner[1]), max_size=2)
    if issubclass(kind, Sequence):
        return st.lists(fitting(inner[0]), max_size=3)
    return st.sampled_from(list(kind))


def required(cls: type) -> dict[str, Any]:
    """Values for the fields of a class that have no default."""
    hints = get_type_hints(cls)
    given = {}
    for f in fields(cls):
        if f.init and f.default is f.default_factory:  # both missing
            given[f.name] = some_value(hints[f.name])
    return given


def some_value(annotation: Any) -> Any:
    """One value that an annotation takes."""
    kind, inner = get_origin(annotation) or annotation, get_args(annotation)
    if is_union(annotation):
        return some_value(inner[0])
    if kind is Any or kind is Literal:
        return inner[0] if inner else None
    if is_dataclass(kind):
        return built(kind)
    if isinstance(kind, type) and issubclass(kind, (Mapping, Sequence)) and kind is not str:
        return {} if issubclass(kind, Mapping) else [some_value(inner[0])] if inner else []
    return 1 if kind is int else kind()  # many count something, of which there must be one


def built(cls: type) -> Any:
    return from_mapping(cls, required(cls))


def strict(value: Any, annotation: Any) -> bool:
    """Whether a value is, or stands in YAML for, what an annotation says: the slow twin."""
    kind, inner = get_origin(annotation) or annotation, get_args(annotation)
    if kind is Any:
        return True
    if is_union(annotation):
        return any(strict(value, part) for part in inner)
    if kind is Literal:
        return any(type(value) is type(c) and value == c for c in inner)
    if kind is bool:
        return type(value) is bool
    if kind is int:
        return type(value) is int
    if kind is float:
        return type(value) in (int, float) or (type(value) is str and _number(value))
    if kind is str or kind is type(None):
        return type(value) is kind
    if kind is Path:
        return isinstance(value, (str, Path))
    if is_dataclass(kind):
        return isinstance(value, kind)
    if issubclass(kind, Enum):
        return value in [m.value for m in kind] + [m.name for m in kind]
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping) and all(
            strict(k, inner[0]) and strict(v, inner[1]) for k, v in value.items()
        )
    if not isinstance(value, (list, tuple)):
        return False
    if kind is tuple and inner[-1] is not ...:
        return len(value) == len(inner) and all(map(strict, value, inner))
    return all(strict(item, inner[0]) for item in value)


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return set(text) <= set("0123456789.eE+-")


def refusal(cls: type, settings: Mapping[str, Any]) -> ValueError | None:
    try:
        from_mapping(cls, settings, "some.place")
    except ValueError as error:
        return error
    return None


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("a1.e-")
VALUES = st.recursive(
    LEAVES | st.binary(max_size=2) | st.builds(object),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2)
        | st.tuples(inner)
    ),
    max_leaves=3,
)


class TestEverySetting:
    def test_they_are_found(self):
        names = {cls.__name__ for cls in SETTINGS}
        assert names >= {"FitConfig", "FinetuneConfig", "MetaConfig", "ZooConfig", "PruneConfig"}

    @pytest.mark.parametrize(("cls", "name"), FIELDS, ids=lambda x: getattr(x, "__name__", x))
    def test_a_value_of_no_type_is_refused_by_its_full_name(self, cls, name):
        annotation = get_type_hints(cls)[name]
        if annotation is Any:
            pytest.skip("takes anything")
        with pytest.raises(SettingError, match=rf"^some\.place\.{name} takes .*\(got <object"):
            from_mapping(cls, {**required(cls), name: object()}, "some.place")

    @given(value=VALUES)
    @hypothesis_settings(max_examples=25, deadline=None)
    @pytest.mark.parametrize(("cls", "name"), FIELDS, ids=lambda x: getattr(x, "__name__", x))
    def test_what_is_taken_is_what_the_annotation_says(self, cls, name, value):
        annotation = get_type_hints(cls)[name]
        if any(is_dataclass(part) for part in (annotation, *get_args(annotation))):
            return  # a mapping for a dataclass is checked field by field
        settings = {**required(cls), name: value}
        if not strict(value, annotation):
            with pytest.raises(SettingError) as caught:
                from_mapping(cls, settings, "some.place")
            assert caught.value.name.startswith(f"some.place.{name}")
            assert caught.value.name in str(caught.value)
        elif error := refusal(cls, settings):  # of the type, but the class itself says no
            assert not isinstance(error, SettingError)
            assert "some.place" in str(error)

    @pytest.mark.parametrize("cls", SETTINGS)
    def test_a_name_that_is_no_field_is_refused_with_the_nearest(self, cls):
        name = fields(cls)[0].name
        typo = f"{name}x"
        sentence = rf'^a\.b\.{typo}: unknown setting "{typo}" \(did you mean "{name}"\?\)'
        with pytest.raises(SettingError, match=sentence):
            from_mapping(cls, {**required(cls), typo: 1}, "a.b")

    @pytest.mark.parametrize("cls", SETTINGS)
    def test_round_trip(self, cls):
        settings = built(cls)
        again = from_mapping(cls, asdict(settings))
        assert again == settings
        assert type(again) is cls


@given(st.data())
@hypothesis_settings(max_examples=60, deadline=None)
def test_round_trip_of_any_values(data):
    hints = get_type_hints(Outer)
    others = [f.name for f in fields(Outer) if f.name not in ("fit", "other")]
    drawn = {name: data.draw(fitting(hints[name])) for name in others}
    settings = Outer(**drawn, fit=Inner(lr=data.draw(st.floats(allow_nan=False))))
    again = from_mapping(Outer, asdict(settings))
    assert again == settings
    for f in fields(Outer):  # 1 == 1.0 == True
        assert type(getattr(again, f.name)) is type(getattr(settings, f.name)), f.name


def test_what_yaml_cannot_say_is_converted():
    given = OmegaConf.to_container(
        OmegaConf.create(
            """
            folder: here
            fit: {lr: 1e-3}
            rate: 1
            few: 2
            shape: [1, 2]
            mean: [1, 2.5]
            colour: red
            overrides: {a: {b: "5e-4"}}
            """
        )
    )
    found = from_mapping(Outer, {**given, "fit": {"lr": "1e-3"}})
    assert found.folder == Path("here")
    assert (found.fit.lr, found.fit.epochs) == (1e-3, 3)
    assert type(found.rate) is float
    assert type(found.few) is int  # a number of units, not a share
    assert found.shape == (1, 2)
    assert found.mean == (1.0, 2.5)
    assert found.colour is Colour.RED
    assert found.overrides == {"a": {"b": 5e-4}}


def test_a_mapping_for_a_dataclass_changes_only_what_it_names():
    assert from_mapping(Outer, {"folder": "f", "fit": {"epochs": 9}}).fit == Inner(0.02, 9)
    assert from_mapping(Outer, {"folder": "f", "other": {"epochs": 9}}).other == Inner(0.1, 9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"fit": {"lrr": 1}},
            r'^run\.fit\.lrr: unknown setting "lrr" \(did you mean "lr"\?\): exp',
        ),
        ({"fit": {"lr": "fast"}}, r"^run\.fit\.lr takes a number \(got 'fast'\)"),
        ({"fit": {"epochs": True}}, r"^run\.fit\.epochs takes a whole number \(got True\)"),
        ({"fit": {"epochs": 0}}, r"^run\.fit\.epochs must be at least 1 \(got 0\)"),
        ({"fit": 3}, r"^run\.fit takes a mapping of settings \(Inner\) \(got 3\)"),
        ({"other": {"epochs": "2"}}, r"^run\.other\.epochs takes a whole number"),
        ({"budget": 3}, r"^run\.budget takes text or a mapping or null \(got 3\)"),
        ({"compare": ["a", 3]}, r"^run\.compare\[1\] takes text or a mapping \(got 3\)"),
        ({"compare": "uniform"}, r"^run\.compare takes a list \(each text or a mapping\)"),
        ({"mean": [1.0]}, r"^run\.mean takes a list of 2 \(a number, a number\) \(got \(1\.0,\)\)"),
        ({"overrides": {"a": {"b": "x"}}}, r"^run\.overrides\.a\.b takes a number"),
        ({"device": "cpuu"}, r'takes one of "auto", "cpu" \(got \'cpuu\'; did you mean "cpu"\?'),
        ({"colour": "green"}, r'^run\.colour takes one of "red", "blue" \(got \'green\'\)'),
        ({"flag": 1}, r"^run\.flag takes true or false \(got 1\)"),
    ],
)
def test_messages(given, message):
    with pytest.raises(ValueError, match=message):
        from_mapping(Outer, {"folder": "f", **given}, "run")


def test_a_missing_setting_is_named():
    with pytest.raises(SettingError, match=r"^run\.folder is missing: it takes a path"):
        from_mapping(Outer, {}, "run")
    with pytest.raises(SettingError, match="Outer takes a mapping of settings"):
        from_mapping(Outer, [1])


def test_errors_travel_between_processes():
    with pytest.raises(SettingError) as caught:
        from_mapping(Outer, {})
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.name, str(again)) == (caught.value.name, str(caught.value))


class TestArguments:
    def test_of_a_function(self):
        def load(*, path: str, mean: tuple[float, ...] = (), size: int | None = None, free=None):
            return path, mean, size, free

        given = {"path": "a", "mean": [1, 2], "free": object()}
        assert arguments(load, given, "data") == {**given, "mean": (1.0, 2.0)}
        for bad, message in (
            ({}, r"^data\.path is missing: it takes text"),
            ({"path": 3}, r"^data\.path takes text \(got 3; put"),
            ({"path": "a", "sise": 3}, r'^data\.sise: unknown setting .*mean "size"'),
        ):
            with pytest.raises(SettingError, match=message):
                arguments(load, bad, "data")

    def test_a_function_that_takes_any_name(self):
        def load(path: str, **options: int):
            return path, options

        assert arguments(load, {"path": "a", "b": 1}, "data") == {"path": "a", "b": 1}


def test_one_of():
    one_of("device", "cpu", ("auto", "cpu"))
    with pytest.raises(ValueError, match=r"device must be one of auto, cpu \(got 'gpu'\)"):
        one_of("device", "gpu", ("auto", "cpu"))


def test_words():
    assert words(float | None) == "a number or null"
    assert words(Sequence[int] | None) == "a list (each a whole number) or null"
    assert words(Mapping[str, Any]) == "a mapping"
