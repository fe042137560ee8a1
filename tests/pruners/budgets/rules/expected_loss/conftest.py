"""What all budgets by expected loss are tested with."""

from __future__ import annotations

import pytest

from pruners.curves import expected


@pytest.fixture(autouse=True)
def a_few_examples_may_judge(monkeypatch):
    """So that what is not said is tried on small calibrations too."""
    monkeypatch.setattr(expected, "FEWEST", 1)
