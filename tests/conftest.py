"""The same examples and the same random numbers in every run: what fails once fails again."""

import gc

import pytest
import torch
from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Tests draw the same numbers whatever ran before them, in whichever process."""
    torch.manual_seed(0)


def pytest_collection_finish() -> None:
    """Collections of garbage pass over what lives until the end: modules, and the tests."""
    gc.collect()
    gc.freeze()
