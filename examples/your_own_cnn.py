"""Your own CNN in ten lines.

Any module that `torch.export` accepts can be pruned; nothing is written for it. This one learns to
tell handwritten digits apart, loses half of its multiplications, learns for one epoch more, and is
saved and opened again.

    python examples/your_own_cnn.py
"""

from __future__ import annotations

import tempfile

import torch
from torch import nn

import metaprune
from training import evaluate, fit
from training.data import load

# %% A network and its data
# A class of your own, with a residual branch; `load` brings data sets with splits and a task. A
# `DataLoader`, tensors or tuples serve as well.


class Net(nn.Module):
    """(batch, 1, 8, 8) → (batch, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 24, 3, padding=1)
        self.body = nn.Conv2d(24, 24, 3, padding=1)
        self.head = nn.Linear(24 * 16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.stem(x).relu()
        x = x + self.body(x).relu()
        return self.head(nn.functional.max_pool2d(x, 2).flatten(1))


torch.manual_seed(0)
data, model = load("digits"), Net()
fit(model, data, {"epochs": 5, "batch_size": 50, "lr": 0.1, "clip": 1.0})
model.eval()

# %% What may be pruned
# A group is what has to be cut together. Two convolutions add up to one stream here, so they share
# an axis; that needs no word from you.
for group in metaprune.trace(model, data.example_inputs()).groups():
    print(group)

# %% Prune
# Half of the multiply-accumulates go. A few training batches say how much the predictions care
# about every channel, and what stays is fitted to the outputs of the dense network.
result = metaprune.prune(
    model,
    data.example_inputs(),
    target={"macs": "50%"},
    calibration=data.calibration(256, 64),
    data=data,
    finetune={"epochs": 1, "lr": 0.01},
)
print(result)
for name, network in (("dense", model), ("pruned", result.model)):
    print(name, f"{100 * evaluate(network, data)['accuracy']:.2f} % of the test images")

# %% Save, and open again
# A folder of JSON and safetensors. A class of your own is filled in from a fresh instance.
with tempfile.TemporaryDirectory() as folder:
    again = metaprune.load(result.save(f"{folder}/pruned"), dense=Net())
images = data.example_inputs(4)
difference = (again(*images) - result.model(*images)).abs().max().item()
print("largest difference:", difference)
assert difference == 0.0
