from __future__ import annotations

import pytest

from training import fit


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"learning_rate": 1}, 'unknown setting "learning_rate": expected one of epochs'),
        ({"optimizer": "lion"}, "optimizer must be one of sgd, adamw"),
        ({"schedule": "step"}, "schedule must be one of"),
        ({"mixed_precision": "fp8"}, "mixed_precision must be one of"),
        ({"epochs": 0}, "epochs must be at least 1"),
    ],
)
def test_bad_settings(network, digits, setting, message):
    with pytest.raises(ValueError, match=message):
        fit(network, digits, setting)
