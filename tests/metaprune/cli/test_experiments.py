"""Protocols of the literature: they compose, and run on small stand-ins of networks and data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from metaprune.cli import sweep  # noqa: F401 (registers a resolver of the configurations)
from metaprune.packages import CONF
from tests.metaprune.cli.test_page import model  # noqa: F401 (a fixture)

EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
QUICK = [
    "latency.batch_size=0", "calibration.examples=16", "calibration.batch_size=8", "compare=[]",
    "save=false", "progress=false", "hydra.run.dir=run",
]  # fmt: skip
NETWORK = """
from torch import nn

def make(width: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3),
    )
"""


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_composes_and_its_own_values_win(name):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("prune", [f"experiment={name}", "latency.batch_size=7"])
    assert "runtime.choices" not in str(config._get_node("title")._value())
    assert config.latency.batch_size == 7
    assert any(value is not None for value in config.target.values())
    assert config.calibration.gradients  # what it does not say stays


def parquet(column: str, classes: int) -> None:
    import datasets

    random = np.random.default_rng(0)
    for part, count in (("train", 60), ("test", 40)):
        pixels = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
        table = datasets.Dataset.from_dict(
            {
                "img": [Image.fromarray(one) for one in pixels],
                column: [int(i) % classes for i in range(count)],
            },
            features=datasets.Features({"img": datasets.Image(), column: datasets.Value("int64")}),
        )
        table.to_parquet(f"data/{part}-00000-of-00001.parquet")


def checkpoint(family: str, options: dict) -> None:
    from safetensors.torch import save_file

    from training.networks import ARCHITECTURES

    save_file(ARCHITECTURES[family](**options).state_dict(), "weights.safetensors")


def pruned(run, name: str, *overrides: str) -> dict:
    code, out, errors = run("prune", f"experiment={name}", *QUICK, *overrides)
    assert code == 0, out + errors
    return json.loads(Path("run/report.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "family", "options", "column", "classes"),
    [
        ("resnet56_cifar10", "cifar_resnet", {"depth": 8, "width": 4, "classes": 10}, "label", 10),
        ("vgg19_cifar100", "cifar_vgg19", {"width": 8, "classes": 100}, "fine_label", 100),
    ],
)
def test_small_images(run, name, family, options, column, classes, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    Path("data").mkdir()
    parquet(column, classes)
    checkpoint(family, options)
    told = ",".join(f"{key}: {value}" for key, value in options.items())
    report = pruned(
        run, name, f"model.options={{{told}}}", "model.path=weights.safetensors", "data.path=data",
        "data.validation=20", "finetune.epochs=1", "finetune.batch_size=20",
    )  # fmt: skip
    asked = {"resnet56_cifar10": [2.11, 2.57], "vgg19_cifar100": [8.92]}[name]
    for entry, speedup in zip(report["entries"], asked, strict=True):
        assert entry["achieved"]["speedup"] >= speedup
        assert entry["after"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50_imagenet", "deit_imagenet"])
def test_image_folders(run, name):
    random = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 6)):
        for label in ("ant", "bee", "cat"):
            folder = Path("data", part, label)
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (40, 60, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    Path("mine.py").write_text(NETWORK)
    report = pruned(
        run, name, "model.function=mine.py:make", "~model.options", "+model.options={width: 12}",
        "data.path=data", "data.size=32", "data.resize=36", "data.train_size=30",
        "data.validation=9",
    )  # fmt: skip
    assert all(0.05 < e["achieved"]["macs"] / report["cost"]["macs"] <= 0.8
               for e in report["entries"])  # fmt: skip
    assert report["examples"] == 18


@pytest.mark.slow
def test_a_language_model(run, model):  # noqa: F811
    report = pruned(
        run, "llama", "model.path=MODEL", "data.hub=null", "data.train=train.txt",
        "data.test=test.txt", "data.window=63",
    )  # fmt: skip
    (entry,) = report["entries"]
    assert 0.49 < entry["achieved"]["sparsity"] <= 0.51
    low, high = entry["interval"]
    assert low < entry["before"]["perplexity"] < high
