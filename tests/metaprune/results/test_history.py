"""What was done to a module is remembered as long as the module lives, and no longer."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from torch import nn

import metaprune
from metaprune.results import history
from metaprune.results.history import history_of

COPIED = [
    {"target": {"macs": "60%"}},
    {"pattern": "unstructured", "target": {"sparsity": 0.5}},
    {"pattern": "low-rank", "target": {"params": "80%"}},
]


def once(model: nn.Module):
    return metaprune.prune(
        model, (torch.randn(2, 8),), pattern="row", target={"sparsity": 0.5}, metanet=None
    )


def test_it_goes_with_the_module():
    gc.collect()
    before = len(history._HISTORIES)
    result = once(nn.Linear(8, 8))
    assert history_of(result.model).plan == result.plan
    assert len(history._HISTORIES) == before + 1
    del result
    gc.collect()
    assert len(history._HISTORIES) == before


def test_a_copy_and_the_dense_model_have_none():
    model = nn.Linear(8, 8)
    result = once(model)
    assert history_of(model) is None
    assert history_of(copy.deepcopy(result.model)) is None


@pytest.mark.parametrize("options", COPIED, ids=str)
def test_a_copy_of_a_result_is_as_good_and_apart(options, tmp_path):
    x = torch.randn(2, 8)
    made = nn.Sequential(
        nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3)
    )
    result = metaprune.prune(made, (x,), **options)
    copied = copy.deepcopy(result)
    assert type(copied) is type(result)
    assert copied.plan == result.plan
    assert copied.report == result.report
    assert torch.equal(copied.model(x), result.model(x))
    assert history_of(copied.model) == history_of(result.model)
    assert torch.equal(metaprune.load(copied.save(tmp_path / "copy"))(x), result.model(x))
    before = {name: value.clone() for name, value in result.model.state_dict().items()}
    with torch.no_grad():
        for tensor in (
            *copied.model.parameters(),
            *(t.value for t in copied.network.tensors.values()),
        ):
            tensor.zero_()
    assert all(torch.equal(before[n], v) for n, v in result.model.state_dict().items())
    assert any(bool(t.value.any()) for t in result.network.tensors.values())


def test_a_copy_that_is_changed_by_hand_has_a_history_that_says_so():
    copied = copy.deepcopy(once(nn.Sequential(nn.Linear(8, 8))))
    copied.model[0] = nn.Linear(8, 4)
    with pytest.raises(ValueError, match="changed by hand"):
        history_of(copied.model)
