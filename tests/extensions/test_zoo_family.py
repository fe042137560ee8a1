"""A family from outside: drawn, trained in workers, named in settings, pruned, opened again."""

from __future__ import annotations

import pytest
import torch

import metaprune
from tests.extensions.networks import ZOO
from training import sources, zoo

SHAPE = (1, 8, 8)


def test_its_members_are_built_trained_and_pruned(add, reopened, tmp_path):
    add("zoo family")
    assert "pyramid" in zoo.families(SHAPE)
    built = zoo.build_zoo({**ZOO, "folder": str(tmp_path / "zoo"), "families": ["pyramid"]})
    assert [member.spec.family for member in built] == ["pyramid"] * 2
    spec, member = built[0].spec, zoo.members(tmp_path / "zoo")[0]
    source = {
        "source": "family",
        "family": "pyramid",
        "options": dict(spec.options),
        "shape": [*SHAPE],
        "outputs": 10,
        "seed": spec.seed,
    }
    assert torch.equal(sources.load(**source)[0].weight, zoo.build(spec)[0].weight)
    images = torch.linspace(-1, 1, 128).reshape(2, *SHAPE)
    result = metaprune.prune(member.load().eval(), (images,), target={"macs": "50%"}, metanet=None)
    reopened(result, source=source)


def test_the_command_line_imports_it(write, run, tmp_path):
    code, out, errors = run(
        "zoo",
        "--import",
        write("zoo family"),
        f"zoo.folder={tmp_path / 'zoo'}",
        "zoo.members=1",
        "zoo.held_out=0",
        "zoo.families=[pyramid]",
        "+zoo.data.train_size=100",
        "zoo.fit.epochs=1",
    )
    assert code == 0, errors
    assert "pyramid" in out
    (member,) = zoo.members(tmp_path / "zoo")
    assert member.spec.family == "pyramid"


@pytest.mark.slow
def test_workers_of_a_zoo_know_it(add, tmp_path):
    add("zoo family")
    settings = {**ZOO, "members": 2, "held_out": 0, "workers": 2, "families": ["pyramid"]}
    built = zoo.build_zoo({**settings, "folder": str(tmp_path / "zoo")})
    assert [member.spec.family for member in built] == ["pyramid", "pyramid"]
