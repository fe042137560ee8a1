"""Prune a model of your own to half its MACs, save it, load it again.

python examples/prune_your_model.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

import metaprune


class Net(nn.Module):
    """Any module that torch.export accepts; nothing is written for it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.body = nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) → (batch, 10)."""
        x = self.stem(x).relu()
        x = x + self.body(x).relu()
        return self.head(x.mean((2, 3)))


def main() -> None:
    """Trace, prune, save, load."""
    torch.manual_seed(0)
    model, images = Net().eval(), torch.randn(8, 3, 32, 32)
    for group in metaprune.trace(model, (images,)).groups():
        print(group)
    result = metaprune.prune(model, (images,), target={"macs": "50%"}, calibration=[(images,)])
    print(result.report["achieved"])
    with tempfile.TemporaryDirectory() as folder:
        again = metaprune.load(result.save(Path(folder) / "pruned"))
        print("largest difference:", (again(images) - result.model(images)).abs().max().item())


if __name__ == "__main__":
    main()
