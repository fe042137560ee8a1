"""A small language model, ready for the laws."""

from __future__ import annotations

import pytest
import torch

from metaprune.testing.subject import prepared
from tests.oracles.networks.families import build


@pytest.fixture(scope="module")
def llama():
    model, inputs = build("llama", torch.float64)
    return prepared(model, inputs, 0)
