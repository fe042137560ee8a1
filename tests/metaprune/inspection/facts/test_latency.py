"""Latency is measured when asked."""

from __future__ import annotations

import metaprune
from tests.oracles.networks.families import build


def test_latency_is_measured_when_asked():
    found = metaprune.inspect(*build("mlp"), latency=3)
    low, high = found.reachable["latency_ms"]
    assert 0 < low <= high
    assert "latency" in str(found)
