from __future__ import annotations

import pytest

from training.fitting.optim import learning_rate


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "constant"])
def test_schedules(schedule):
    rates = [learning_rate(schedule, step, 100, 0.5, 0.2) for step in range(100)]
    rise, fall = rates[:21], rates[20:]
    assert max(rates) == rates[20] == 0.5
    assert rise == sorted(rise)
    assert fall == sorted(fall, reverse=True)
    assert 0 < rates[0] < 0.05
    assert rates[-1] == 0.5 if schedule == "constant" else 0 <= rates[-1] < 0.02
