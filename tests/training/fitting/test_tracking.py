"""What is trained inside of a tracking is logged, with the part of the run that it is of."""

from __future__ import annotations

import pytest

from tests.training.fitting.events import scalars
from training.fitting.tracking import check, log, tracking, within


def test_figures_are_logged_inside_and_nowhere_else(tmp_path):
    log({"loss": 9.0}, 0)
    with tracking(["tensorboard"], tmp_path, {"model": {"name": "cnn"}, "list": [1, 2]}):
        with within("finetune"):
            log({"loss": 2.0}, 1)
            log({"loss": 1.0}, 2)
        log({"score": 0.5}, 2)
    log({"loss": 9.0}, 3)
    assert scalars(tmp_path) == {
        "finetune/loss": [(1, 2.0), (2, 1.0)], "score": [(2, 0.5)]
    }  # fmt: skip


def test_nothing_is_written_where_nothing_is_asked_or_logged(tmp_path):
    with tracking([], tmp_path):
        log({"loss": 1.0}, 1)
    with tracking(["tensorboard"], tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_trackers_that_there_are_not_are_refused():
    check(["tensorboard"])
    with pytest.raises(ValueError, match='did you mean "tensorboard"'):
        check(["tensorbord"])
    with pytest.raises(ValueError, match="pip install clearml"):
        check(["clearml"])
