"""What users get from a pruning: the value, and what can be done with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from metaprune.results.masks import keep
from metaprune.results.pruned import Pruned
from metaprune.saving.export import export_model
from metaprune.saving.folder import save


@dataclass(frozen=True, repr=False)
class Result(Pruned):
    """A pruned network that can be saved and exported; for its fields see `Pruned`."""

    @classmethod
    def of(cls, found: Pruned) -> Result:
        """The same value with the verbs of a result."""
        return cls(**{entry.name: getattr(found, entry.name) for entry in fields(Pruned)})

    def save(
        self, folder: str | os.PathLike[str], *, source: Mapping[str, Any] | None = None
    ) -> Path:
        """Write a folder that `metaprune.load` opens: weights, plan, report and a card.

        Args:
            folder: new, or empty; it appears only when everything is in it.
            source: how `training.sources.load` builds the dense architecture, such as `{"source":
                "function", "function": "torchvision.models:resnet50"}`. With it, and for
                transformers models without it, the pruned model comes back in its own class;
                otherwise it comes back as its exported graph.

        Raises:
            FileExistsError: the folder holds something.
            ValueError: what would be saved does not load and compute the same.
        """
        return save(self, Path(folder), source)

    def keep_masks(self) -> int:
        """Set the weights outside of the masks to 0 again, in the model itself.

        For loops of your own: an optimizer moves them, so call it after every step.

            loss.backward(); optimizer.step(); result.keep_masks()

        Returns:
            How many were not 0.
        """
        return keep(self)

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
        return export_model(self.model, self.example_inputs, path, format)
