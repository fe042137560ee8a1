"""A recovery method from outside, in a list with others, with options."""

from __future__ import annotations

import pytest
import torch

import metaprune
from tests.extensions.networks import SOURCE, batches, mlp

EXAMPLE = (batches()[0],)


def prune(recovery, **settings):
    asked = {"target": {"sparsity": 0.5}, "pattern": "unstructured", "metanet": None, **settings}
    return metaprune.prune(mlp(), EXAMPLE, recovery=recovery, **asked)


def norms(model, name):
    return model.get_parameter(name).detach().norm(dim=1)


def test_it_acts_on_the_pruned_network_and_says_so(add, reopened):
    add("recovery method")
    result, dense = prune(["row-norms"]), mlp()
    for name, mask in result.masks.items():
        some = mask.any(1)
        torch.testing.assert_close(norms(result.model, name)[some], norms(dense, name)[some])
        assert not result.model.get_parameter(name)[~mask].any()
    assert any("Rows given the norm" in note for note in result.report["notes"])
    assert "row-norms" in result.report["seconds"]
    reopened(result, source=SOURCE)


def test_it_takes_options_and_its_place_in_a_list(add):
    add("recovery method")
    plain, nothing = prune([]), prune([{"row-norms": {"strength": 0.0}}])
    assert all(map(torch.equal, plain.model.parameters(), nothing.model.parameters()))
    both = prune(["order", {"row-norms": {"strength": 0.5}}], calibration=batches())
    done = [step for step in both.report["seconds"] if step != "judge"]
    assert done[-1] == "row-norms"
    with pytest.raises(ValueError, match=r'row-norms\.strenght: .*did you mean "strength"'):
        prune([{"row-norms": {"strenght": 1.0}}])


def test_it_is_refused_where_it_does_not_serve(add):
    with pytest.raises(ValueError, match='unknown recovery method "row-norms"'):
        prune(["row-norms"])
    add("recovery method")
    with pytest.raises(ValueError, match="serves patterns that change weights"):
        prune(["row-norms"], pattern="channels", target={"macs": "50%"})
