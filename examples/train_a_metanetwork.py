"""Train your own metanetwork.

A metanetwork learns on a zoo of small networks what may go, and then says it of a new one in one
forward pass. This zoo has five members and the training ten steps, which shows the road and teaches
nothing: give both some hours for more.

    pip install 'metaprune[train]'
    python examples/train_a_metanetwork.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

import metanet
import metaprune
from training.data import load
from training.meta import compare, meta_train, subjects_of
from training.zoo import build_zoo, members

folder = Path(tempfile.mkdtemp())
torch.manual_seed(0)

# %% A zoo
# Networks of several families on one data set. Held-out ones judge and never teach. Members that
# are in the folder already stay, so an interrupted zoo goes on.
build_zoo(
    {
        "folder": str(folder / "zoo"),
        "members": 3,
        "held_out": 2,
        "families": ("plain", "residual"),
        "fit": {"epochs": 2, "batch_size": 50, "lr": 0.05, "clip": 1.0},
    }
)
train, held_out = (subjects_of([folder / "zoo"], part) for part in ("train", "held_out"))

# %% Training
# On the command line: `metaprune train 'zoos=[zoo]' folder=meta`, which writes a page as well.
meta = metanet.build({"name": "streaming", "hidden": 16, "layers": 2})
result = meta_train(meta, train, held_out, {"steps": 10, "networks": 2, "judge_every": 5})
for one in compare(meta, held_out):
    print(f"{one.network} at {one.share:.0%}: {one.advised:.4f} advised, {one.base:.4f} without")

# %% Ask it
# It is a file from then on, known by its path.
metanet.save(meta.eval(), folder / "metanet.safetensors")
member = next(iter(members(folder / "zoo", "held_out")))
model, data = held_out[0].model, load("digits")
pruned = metaprune.prune(
    model,
    data.example_inputs(),
    target={"macs": "50%"},
    metanet=str(folder / "metanet.safetensors"),
    calibration=data.calibration(128, 64),
)
print(pruned)
assert pruned.plan.budget == "metanet"
