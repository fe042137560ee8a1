"""A name is taken once, and an unknown one is told with the nearest."""

from __future__ import annotations

from collections import Counter

import pytest

from graphs.tools.registry import Registry


def test_things_come_in_the_order_of_registration():
    found: Registry[int] = Registry("number")
    found.add("two", 2)
    found.add("one", 1)
    assert list(found) == ["two", "one"]
    assert found.find("one") == found["one"] == 1
    assert len(found) == 2


def test_the_decorator_gives_back_what_it_decorates():
    found: Registry[object] = Registry("function")

    @found.register("f")
    def f() -> None: ...

    assert found["f"] is f


def test_a_name_is_taken_once():
    found: Registry[int] = Registry("number")
    found.add("one", 1)
    with pytest.raises(ValueError, match='a number "one" is already registered'):
        found.add("one", 2)
    assert found["one"] == 1


def test_an_unknown_name_is_told_with_the_nearest():
    found: Registry[int] = Registry("number")
    for i, name in enumerate(("uniform", "lamp")):
        found.add(name, i)
    with pytest.raises(ValueError, match=r'unknown number "unifrom" \(did you mean "uniform"'):
        found.find("unifrom")
    with pytest.raises(ValueError, match='"lamp": expected one of uniform'):
        found.find("lamp", among=["uniform"])


def test_names_that_are_missing_are_asked_for_like_those_of_a_mapping():
    found: Registry[int] = Registry("number")
    found.add("one", 1)
    assert "one" in found
    assert "two" not in found
    assert found.get("two") is None
    assert found.get("two", 5) == 5
    assert found.get("one", 5) == 1


def test_what_is_registered_for_a_while_is_gone_afterwards():
    found: Registry[int] = Registry("number")
    found.add("one", 1)
    with found.scoped({"one": 11, "two": 2}):
        found.add("three", 3)
        assert dict(found) == {"one": 11, "two": 2, "three": 3}
    assert dict(found) == {"one": 1}
    with pytest.raises(ValueError, match="already registered"), found.scoped({"two": 2}):
        found.add("two", 3)
    assert "two" not in found


def test_what_is_promised_is_imported_when_it_is_asked_for():
    things: Registry[type] = Registry("kind of thing")
    things.promise("counter", "collections", "Counter")
    things.promise("nothing", "no_such_module", "Thing")
    assert list(things) == ["counter", "nothing"]
    assert "nothing" in things
    assert things["counter"] is things.find("counter") is things.get("counter") is Counter
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        things.find("nothing")
    with pytest.raises(ValueError, match="already registered"):
        things.add("counter", dict)
