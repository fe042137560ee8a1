from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from training import FinetuneConfig, data, sources, zoo
from training.config import from_mapping
from training.fitting.settings import FitConfig
from training.sources import SOURCES

CONF = Path(__file__).parents[2] / "conf"


def group(name):
    return [pytest.param(path, id=path.stem) for path in sorted((CONF / name).glob("*.yaml"))]


def read(path):
    """Return a YAML file as plain values; mandatory ones (???) become placeholders."""
    config = OmegaConf.load(path)
    for key in OmegaConf.missing_keys(config):
        OmegaConf.update(config, key, "given")
    return OmegaConf.to_container(config, resolve=True)


@pytest.mark.parametrize("path", group("data"))
def test_data(path):
    config = read(path)
    function = data.DATASETS[config.pop("name")]
    defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()}
    assert config.keys() == defaults.keys()
    for name, value in config.items():
        value = tuple(value) if isinstance(value, list) else value
        assert value == "given" or value == defaults[name], f"{name} differs from its default"


@pytest.mark.parametrize("path", group("model"))
def test_model(path):
    config = read(path)
    source = config.pop("source")
    if source not in SOURCES:
        pytest.skip(f"source {source!r} is registered and tested in metaprune")
    inspect.signature(SOURCES[source]).bind(**config)
    if source == "family":
        config["path"] = None
        assert sources.load(source, **config)


@pytest.mark.parametrize("path", group("finetune"))
def test_finetune(path):
    parsed = FinetuneConfig.parse(read(path))
    assert isinstance(parsed.fit.lr, float)
    assert isinstance(parsed.fit.weight_decay, float)


@pytest.mark.parametrize("path", group("zoo"))
def test_zoo(path):
    config = from_mapping(zoo.ZooConfig, read(path))
    assert set(config.families or ()) <= set(zoo.families())
    assert config.data["name"] in data.DATASETS
    for overrides in ({}, *config.overrides.values()):
        assert isinstance(from_mapping(FitConfig, {**config.fit, **overrides}).lr, float)
    assert set(config.overrides) <= set(zoo.families())


def test_the_demo_network_is_not_in_the_zoo():
    config = read(CONF / "model/cnn.yaml")
    widths = config["options"]["widths"]
    assert any(width % 4 for width in widths)  # samplers draw multiples of four
    drawn = [zoo.sample(seed, (1, 8, 8), 10, ("residual",)).options for seed in range(200)]
    assert widths not in [options["widths"] for options in drawn]
