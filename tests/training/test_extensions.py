"""Sources and objectives of a module of your own, found by name (more in `tests/extensions`)."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

import metanet
from training import sources, zoo
from training.meta import OBJECTIVES, meta_train, objective, subjects_of
from training.sources import SOURCES, source


def test_a_source():
    with SOURCES.scoped():

        @source("constant")
        def constant(*, value: float, outputs: int = 2) -> nn.Module:
            layer = nn.Linear(3, outputs)
            nn.init.constant_(layer.weight, value)
            return layer

        model = sources.load_settings({"source": "constant", "value": 1})
        assert (model.weight == 1).all()
        assert not model.training
        with pytest.raises(ValueError, match=r"^model\.value is missing: it takes a number"):
            sources.load("constant")


def test_an_objective(tmp_path):
    settings = {
        "folder": str(tmp_path),
        "members": 1,
        "held_out": 1,
        "families": ["mlp"],
        "data": {"name": "digits", "train_size": 100},
        "fit": {"epochs": 1, "batch_size": 20, "lr": 0.05, "device": "cpu"},
    }
    zoo.build_zoo(settings)
    meta = metanet.build({"name": "streaming", "hidden": 8, "layers": 1, "heads": 2})
    train, held_out = (subjects_of([tmp_path], part) for part in ("train", "held_out"))
    with OBJECTIVES.scoped():

        @objective("small-logits")
        def small_logits(subject, advice, share, batch, random) -> Tensor:
            return sum((1 + logits).square().sum() for logits in advice.unit_logits.values())

        result = meta_train(meta, train, held_out, {"objective": "small-logits", "steps": 2})
    assert result.steps == 2
