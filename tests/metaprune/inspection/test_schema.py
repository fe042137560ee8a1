"""What an inspection found survives JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from metaprune.inspection import Inspection


def test_json_is_the_whole_of_it(resnet, llama):
    for found in (resnet, llama):
        assert Inspection.from_json(found.to_json()) == found
        content = json.loads(found.to_json())
        assert set(content) == {f.name for f in dataclasses.fields(Inspection)}
        for key, kind in KINDS.items():
            assert isinstance(content[key], kind), key
        assert set(content["groups"][0]) == {f.name for f in dataclasses.fields(found.groups[0])}


KINDS = {
    "format": int, "model": str, "inputs": str, "cost": dict, "reachable": dict,
    "min_units": float, "groups": list, "exactness": dict, "left_alone": list, "turning": list,
    "not_turning": list, "modules": dict,
    "layers": list, "check": dict, "graph": dict, "notes": list, "seconds": dict,
}  # fmt: skip
"""Keys of the document and their types, as docs/inspect.md has them."""


@pytest.mark.parametrize("text", ["", "[]", '{"format": 99}', '{"format": 2, "what": 2}'])
def test_other_documents_are_refused(text):
    with pytest.raises(ValueError, match="inspection"):
        Inspection.from_json(text)
