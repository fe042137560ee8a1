"""Read and edit a plan.

A plan is what a pruning would do, before it does it: names and numbers as JSON. It can be read,
changed by hand, kept, and replayed on any checkpoint of the architecture.

    python examples/edit_a_plan.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from torch import nn

import metaprune

torch.manual_seed(0)


def make() -> nn.Module:
    """Two convolutions and a classifier."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


model, images = make().eval(), torch.randn(8, 3, 16, 16)

# %% Plan
# `plan` takes the same settings as `prune` and leaves the model alone.
plan = metaprune.plan(model, (images,), target={"macs": "50%"})
for axis, choice in plan.kept.items():
    print(f"{axis}: {len(choice.keep)} of {choice.of} channels stay")

# %% Edit
# On disk it is JSON: whoever edits the file by hand does what these lines do. Here the first 24
# channels stay, whatever the budget said; an axis that is not in `kept` stays whole.
file = Path(tempfile.mkdtemp()) / "plan.json"
plan.save(file)
content = json.loads(file.read_text())
content["kept"]["2.out"]["keep"] = list(range(24))
file.write_text(json.dumps(content))

# %% Replay
# On another checkpoint of the same architecture. What does not fit is refused by name.
other = make().eval()
result = metaprune.apply(other, (images,), metaprune.Plan.load(file))
print(result)
assert result.model[2].weight.shape[0] == 24

# %% A chain
# Pruning a pruned network gives a plan of both steps.
twice = metaprune.prune(result.model, (images,), pattern="2:4")
print([step.pattern for step in twice.plan.steps])
assert len(twice.plan.steps) == 2
