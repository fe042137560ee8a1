"""Every YAML is composed, and its settings are what the code takes; defaults agree."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import is_dataclass
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import metanet
from training import FinetuneConfig, data, sources, zoo
from training.config import SettingError, arguments, from_mapping
from training.fitting.settings import FitConfig
from training.meta import MetaConfig
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
    assert arguments(function, config, "data").keys() == config.keys()
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
    assert arguments(SOURCES[source], config, "model").keys() == config.keys()
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


COMMANDS = {
    "demo": [],
    "evaluate": ["model.path=null"],
    "inspect": [],
    "train": ["zoos=[zoo/digits]", "folder=runs/first"],
    "zoo": ["zoo.folder=zoo/digits"],
}


def composed(command, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(command, overrides=[*COMMANDS[command], *overrides])
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


def settings_of(command):
    """The dataclass of a command's settings."""
    module = importlib.import_module(f"metaprune.cli.commands.{command}")
    (found,) = (
        thing
        for name, thing in vars(module).items()
        if is_dataclass(thing) and name.endswith("Config") and thing.__module__ == module.__name__
    )
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command):
    content = composed(command)
    assert from_mapping(settings_of(command), content)
    if "fit" in content:
        assert from_mapping(FitConfig, content["fit"], "fit")
    if content.get("finetune"):
        assert FinetuneConfig.parse(content["finetune"], "finetune")
    if "meta" in content:
        assert from_mapping(MetaConfig, content["meta"], "meta") == MetaConfig()
        assert metanet.build(content["metanet"])
    if "zoo" in content:
        assert from_mapping(zoo.ZooConfig, content["zoo"], "zoo")
    if content.get("data"):
        options = {key: value for key, value in content["data"].items() if key != "name"}
        assert arguments(data.DATASETS.find(content["data"]["name"]), options, "data")
    if "model" in content:
        options = {key: value for key, value in content["model"].items() if key != "source"}
        assert arguments(SOURCES.find(content["model"]["source"]), options, "model")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_misspelt_setting_of_a_command_is_named(command):
    content = composed(command)
    name = list(content)[-1]
    wrong = {**content, f"{name}s_": content[name]}
    with pytest.raises(SettingError, match=f'unknown setting "{name}s_" .did you mean "{name}"'):
        from_mapping(settings_of(command), wrong)
