"""The command line, run inside the process, and two inspections that several folders read."""

from __future__ import annotations

import sys

import pytest
import torch

import metaprune
from metaprune.cli import main as cli
from metaprune.inspection import Inspection
from tests.oracles.networks.families import build
from training.networks import cifar_resnet


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run a command in an empty folder; returns (exit code, output, errors)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["metaprune"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            cli.main(arguments)
        except SystemExit as stop:
            if isinstance(stop.code, str):
                sys.stderr.write(stop.code + "\n")
            code = stop.code if isinstance(stop.code, int) else 1
        out, errors = capfd.readouterr()
        return code, out, errors

    return call


@pytest.fixture(scope="session")
def resnet() -> Inspection:
    return metaprune.inspect(cifar_resnet(20), (torch.randn(2, 3, 32, 32),))


@pytest.fixture(scope="session")
def llama() -> Inspection:
    return metaprune.inspect(*build("llama"))
