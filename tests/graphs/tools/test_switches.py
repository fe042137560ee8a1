"""What several threads switch for the whole process is put back when the last of them leaves."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import metaprune
from graphs.tools.switches import Switch

state = {"value": "before"}


@contextmanager
def changed():
    before, state["value"] = state["value"], "inside"
    yield
    state["value"] = before


def test_the_last_one_puts_it_back_whatever_the_order():
    switch = Switch(changed)
    with switch:
        with switch:
            assert state["value"] == "inside"
        assert state["value"] == "inside"
    assert state["value"] == "before"
    switch.__enter__()  # one thread comes, another comes, the first goes
    switch.__enter__()
    switch.__exit__(None, None, None)
    assert state["value"] == "inside"
    switch.__exit__(None, None, None)
    assert state["value"] == "before"


def test_it_is_put_back_after_an_error():
    switch = Switch(changed)
    with pytest.raises(ZeroDivisionError), switch:
        raise ZeroDivisionError
    assert state["value"] == "before"


def test_threads_that_prune_different_models_get_what_each_gets_alone():
    def model(seed):
        torch.manual_seed(seed)
        attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        return nn.Sequential(nn.Linear(8, 8), attention, nn.Linear(8, 3)).eval()

    models, x = [model(seed) for seed in range(3)], torch.randn(4, 5, 8)

    def pruned(given):
        options = {"target": {"params": "70%"}, "metanet": None}
        return metaprune.prune(given, (x[:2],), calibration=[x], **options).model.state_dict()

    expected = [pruned(one) for one in models]
    fused, found = torch.backends.mha.get_fastpath_enabled(), {}
    random = torch.random.get_rng_state()
    threads = [
        threading.Thread(target=lambda i=i, m=m: found.update({i: pruned(m)}))
        for i, m in enumerate(models)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, state_dict in enumerate(expected):
        assert all(torch.equal(value, found[i][name]) for name, value in state_dict.items())
    assert torch.backends.mha.get_fastpath_enabled() is fused
    assert torch.equal(torch.random.get_rng_state(), random)
