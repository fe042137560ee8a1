"""A module of your own registers a thing, and it is found by name and works everywhere."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn

from training import FitConfig, data, fit, sources, zoo
from training.data import Classification, Data, Split, dataset, fingerprint, hold_out
from training.meta import OBJECTIVES, meta_train, objective, subjects_of
from training.sources import source
from training.zoo import family

FIT = {"epochs": 1, "batch_size": 20, "lr": 0.05, "device": "cpu"}


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """Take out what a test registered, so that other tests see what is shipped."""
    registries = (data.DATASETS, sources.SOURCES, zoo.FAMILIES, OBJECTIVES)
    before = [dict(registry) for registry in registries]
    yield
    for registry, things in zip(registries, before, strict=True):
        registry._things = things


def add_stripes() -> None:
    @dataset("stripes")
    def stripes(*, size: int = 6, count: int = 120, seed: int = 0) -> Data:
        """Tell horizontal from vertical stripes: (1, size, size) images, 2 classes."""
        generator = torch.Generator().manual_seed(seed)
        lines = torch.randint(2, (count, 1, size), generator=generator).float()
        targets = torch.arange(count) % 2
        images = lines.expand(count, size, size).clone()
        images[targets == 1] = images[targets == 1].mT
        split = Split(images[:, None], targets)
        rest, test = hold_out(split, 20, seed)
        train, validation = hold_out(rest, 20, seed)
        splits = (train, validation, test)
        shape = (1, size, size)
        return Data("stripes", *splits, Classification(2), shape, 2, fingerprint(splits))


def add_pyramid() -> None:
    def sample(rng, shape):
        return {"width": rng.choice([8, 12, 16])}

    @family("pyramid", sample)
    def pyramid(shape: tuple[int, ...], outputs: int, *, width: int) -> nn.Module:
        """Two convolutions, the second of twice the width, and a linear classifier."""
        return nn.Sequential(
            nn.Conv2d(shape[0], width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, outputs),
        )


def test_a_data_set():
    add_stripes()
    stripes = data.load("stripes", size=8)
    assert stripes.shape == (1, 8, 8)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    result = fit(model, stripes, FitConfig(**FIT))
    assert result.best["accuracy"] == pytest.approx(result.history[-1]["accuracy"])
    with pytest.raises(ValueError, match=r"^data\.size takes a whole number \(got 'eight'\)"):
        data.load("stripes", size="eight")
    with pytest.raises(ValueError, match='did you mean "stripes"'):
        data.load("stripe")
    with pytest.raises(ValueError, match="already registered"):
        add_stripes()


def test_a_family_and_a_zoo_of_two_members(tmp_path):
    add_stripes()
    add_pyramid()
    settings = {
        "folder": str(tmp_path),
        "members": 1,
        "held_out": 1,
        "families": ["pyramid"],
        "data": {"name": "stripes"},
        "fit": FIT,
    }
    built = zoo.build_zoo(settings)
    assert [member.spec.family for member in built] == ["pyramid"] * 2
    assert zoo.members(tmp_path)[0].load()(torch.zeros(1, 1, 6, 6)).shape == (1, 2)
    assert "pyramid" in zoo.families((1, 6, 6))
    spec = built[0].spec
    named = sources.load("family", family="pyramid", options=spec.options, shape=[1, 6, 6],
        outputs=2, seed=spec.seed)  # fmt: skip
    assert torch.equal(named[0].weight, zoo.build(spec)[0].weight)


def test_a_source():
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
    import metanet

    add_stripes()
    add_pyramid()

    @objective("small-logits")
    def small_logits(subject, advice, share, batch, random) -> Tensor:
        return sum((1 + logits).square().sum() for logits in advice.unit_logits.values())

    settings = {"folder": str(tmp_path), "members": 1, "held_out": 1, "families": ["pyramid"],
                "data": {"name": "stripes"}, "fit": FIT}  # fmt: skip
    zoo.build_zoo(settings)
    meta = metanet.build({"name": "streaming", "hidden": 8, "layers": 1, "heads": 2})
    train, held_out = (subjects_of([tmp_path], part) for part in ("train", "held_out"))
    result = meta_train(meta, train, held_out, {"objective": "small-logits", "steps": 2})
    assert result.steps == 2


MODULE = """
from torch import nn
from training.zoo import family

@family("own", lambda rng, shape: {"width": rng.choice([4, 8, 12])})
def own(shape, outputs, *, width):
    features = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(features, width), nn.Linear(width, outputs))
"""


@pytest.mark.slow
def test_a_family_of_a_module_is_known_to_the_workers_of_a_zoo(tmp_path, monkeypatch):
    (tmp_path / "own_family.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    __import__("own_family")
    settings = {"members": 2, "held_out": 0, "families": ["own"], "workers": 2,
                "data": {"name": "digits", "train_size": 100}, "fit": FIT}  # fmt: skip
    built = zoo.build_zoo({**settings, "folder": str(tmp_path / "zoo")})
    assert [member.spec.family for member in built] == ["own", "own"]
    del sys.modules["own_family"]
