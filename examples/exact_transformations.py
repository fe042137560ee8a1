"""Exact transformations: the same function, easier to prune.

The weights of a network say the same thing in many ways. `symmetries` names them, `rotate` and
`rescale` go from one to another, and `transform=` lets a pruning choose one in which less matters.

    pip install 'metaprune[lm]'
    python examples/exact_transformations.py
"""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import metaprune
from graphs.symmetries.members import random_member

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    tie_word_embeddings=False,
)
model = LlamaForCausalLM(config).eval()
batches = [{"input_ids": torch.randint(0, 96, (4, 24))} for _ in range(4)]

# %% What may be done to it
net = metaprune.trace(model, batches[0])
symmetries = net.symmetries()
for name, found in symmetries.items():
    print(f"{name}: {found.group}")

# %% A random rotation of the residual stream
# Norm scales go into the weights that read them first; then every weight at the stream is turned,
# and the outputs stay what they were.
stream = next(name for name, found in symmetries.items() if found.group == "rotations")
net = net.fold_norms(stream)
matrix = random_member(net, net.symmetry(stream), torch.Generator().manual_seed(0))
turned = net.rotate(stream, matrix).to_model()
with torch.no_grad():
    before, after = model(**batches[0]).logits, turned(**batches[0]).logits
difference = (before - after).abs().max().item()
print("largest difference of a logit:", difference)
assert difference < 1e-4
moved = (turned.model.layers[0].mlp.up_proj.weight - model.model.layers[0].mlp.up_proj.weight).abs()
assert moved.max() > 1e-3

# %% A rotation that is chosen
# `transform="rotate"` descends over rotations before masks are chosen. On trained weights it saves
# much more than on these random ones; the notes say what it found.
for transform in (None, "rotate"):
    result = metaprune.prune(
        model,
        batches[0],
        pattern="unstructured",
        target={"sparsity": 0.5},
        calibration=batches,
        transform=transform,
    )
    with torch.no_grad():
        pruned = result.model(**batches[0]).logits.log_softmax(-1)
        dense = before.log_softmax(-1)
    lost = (dense.exp() * (dense - pruned)).sum(-1).mean().item()
    print(f"transform={transform}: divergence {lost:.2e} from the dense predictions")
