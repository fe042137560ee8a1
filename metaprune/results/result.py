"""What pruning returns."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphs import Network
from pruners import Plan


@dataclass(frozen=True)
class Result:
    """A pruned network.

    Args:
        model: the pruned module, in the class of the original wherever that runs; trainable.
        plan: what was done; replays on other checkpoints of the architecture.
        report: asked, dense and achieved costs, the budget of every layer, what was left alone
            and why, the attributes that were repaired (`repaired`: module path or "config", field,
            old, new) and the configured sizes that differ between modules (`varied`), durations,
            versions and fingerprints; plain JSON values.
        network: the pruned network as axes and tensors, before finetuning.
        example_inputs: what the model runs on.
        masks: parameter name → bool, True where a weight may be non-zero; empty for channels.
    """

    model: nn.Module
    plan: Plan
    report: dict[str, Any]
    network: Network
    example_inputs: Any
    masks: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def save(
        self, folder: str | os.PathLike[str], *, source: Mapping[str, Any] | None = None
    ) -> Path:
        """Write a folder that `metaprune.load` opens: weights, plan, report and a card.

        Args:
            folder: new, or empty; it appears only when everything is in it.
            source: how `training.models.load` builds the dense architecture, for instance
                `{"source": "function", "path": "torchvision.models:resnet50"}`. With it, and for
                transformers models without it, the pruned model comes back in its own class;
                otherwise it comes back as its exported graph.

        Raises:
            FileExistsError: the folder holds something.
            ValueError: what would be saved does not load and compute the same.
        """
        from metaprune.saving.folder import save

        return save(self, Path(folder), source)

    def export(self, path: str | os.PathLike[str], format: str | None = None) -> Path:
        """Write the model as a program for other runtimes, after comparing the two.

        Args:
            path: of the file: `model.onnx`, or `model.pt2` for `torch.export.load`; what it held is
                replaced.
            format: "onnx" or "pt2", where the ending of `path` does not say it.

        Raises:
            ValueError: the model cannot be exported, or the program computes something else.
            ImportError: for ONNX, without the packages of the extra `onnx`.
        """
        from metaprune.saving.export import export_model

        return export_model(self.model, self.example_inputs, path, format)
