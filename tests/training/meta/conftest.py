"""Trained networks to learn from, and one to judge by."""

from __future__ import annotations

import pytest

from training.meta import subjects_of
from training.zoo import build_zoo


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    build_zoo(
        {
            "folder": str(folder),
            "members": 2,
            "held_out": 1,
            "families": ("residual", "plain"),
            "fit": {"epochs": 1, "lr": 0.05, "batch_size": 50},
        }
    )
    return subjects_of([folder], "train"), subjects_of([folder], "held_out")


SMALL = {"name": "streaming", "hidden": 8, "layers": 1, "heads": 2}


def settings(**changes):
    return {
        "steps": 4,
        "networks": 2,
        "batch_size": 32,
        "judge_every": 2,
        "checkpoint_every": 2,
        **changes,
    }
