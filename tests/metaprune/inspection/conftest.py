"""Two inspections shared by the tests of this folder."""

from __future__ import annotations

import pytest
import torch

import metaprune
from metaprune.inspection import Inspection
from tests.oracles.networks.families import build
from training.networks import cifar_resnet


@pytest.fixture(scope="module")
def resnet() -> Inspection:
    return metaprune.inspect(cifar_resnet(20), (torch.randn(2, 3, 32, 32),))


@pytest.fixture(scope="module")
def llama() -> Inspection:
    return metaprune.inspect(*build("llama"))
