from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from training import data as datasets
from training.data import Data


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits() -> Data:
    """Return the digits with augmentation and few training images."""
    return datasets.load("digits", augment=True, train_size=200)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of real models and data, or skip."""
    default = Path(__file__).parents[2] / ".." / "shared" / "data"
    folder = Path(os.environ.get("METAPRUNE_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set METAPRUNE_DATA")
    return folder


@pytest.fixture
def network() -> nn.Module:
    """Return a small network with everything that carries state: dropout, norm statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 10),
        )
