from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from training import compare_latency


class Sleeper(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.calls = seconds, []

    def forward(self, x):
        self.calls.append(time.perf_counter())
        time.sleep(self.seconds)
        return x


def test_latency_takes_turns_and_compares():
    slow, fast = Sleeper(0.008), Sleeper(0.002)
    measured = compare_latency({"slow": slow, "fast": fast}, (torch.zeros(1),), repeats=6, warmup=2)
    assert len(slow.calls) == len(fast.calls) == 8
    order = sorted((t, n) for n, m in (("s", slow), ("f", fast)) for t in m.calls)
    assert "".join(name for _, name in order) == "sf" * 8
    assert measured["slow"].ratio == 1.0
    assert 0.15 < measured["fast"].ratio < 0.7
    assert measured["fast"].low <= measured["fast"].median <= measured["fast"].high
    assert measured["slow"].median >= 0.008


def test_turns_go_on_until_medians_are_known_or_time_is_up(monkeypatch):
    ticks = iter(range(10**6))
    draws = torch.rand(10**4, generator=torch.Generator().manual_seed(0)).tolist()
    monkeypatch.setattr("training.fitting.latency._once", lambda *_: 1.0 + draws[next(ticks)])
    one = {"one": Sleeper(0)}

    def turns(**settings):
        return compare_latency(one, (torch.zeros(1),), repeats=10, **settings)["one"]

    known = turns(within=0.05, seconds=60)
    assert 10 < known.repeats < 1000
    assert known.error <= 0.05 * known.median
    assert turns(within=0.05, seconds=0).repeats == 10
    assert turns(within=10.0, seconds=60).repeats == 10


def test_latency_passes_keyword_arguments():
    measured = compare_latency({"one": Sleeper(0)}, {"x": torch.zeros(1)}, repeats=2)
    assert set(measured) == {"one"}
    with pytest.raises(ValueError, match="needs a model and 2 repeats"):
        compare_latency({}, ())
