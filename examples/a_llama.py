"""A Llama, masked in 2:4 and made narrower.

The same call prunes a language model. Here it is a small Llama with random weights, so that the
script runs anywhere in seconds; `python examples/a_llama.py FOLDER` takes one of yours.

    pip install 'metaprune[lm]'
    python examples/a_llama.py
"""

from __future__ import annotations

import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import metaprune

# %% A model and text to calibrate on
# Tokens are random here; of a real model take text that it is for, a few dozen sequences.
torch.manual_seed(0)
if len(sys.argv) > 1:
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
else:
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    )
model.eval()
size = model.config.vocab_size
batches = [{"input_ids": torch.randint(0, size, (4, 32))} for _ in range(4)]

# %% Masks: two weights of four in a row stay
# `ignore` leaves the head dense. Masks leave shapes as they are, so the file opens with plain
# transformers.
sparse = metaprune.prune(model, batches[0], pattern="2:4", calibration=batches, ignore=["lm_head"])
print(sparse)

# %% Fewer channels, the same number in every layer
# `equal-widths` keeps the configuration of the class: `from_pretrained` opens the result.
small = metaprune.prune(
    model, batches[0], pattern="equal-widths", target={"macs": "70%"}, calibration=batches
)
print(small)
print("hidden units:", model.config.intermediate_size, "→", small.model.config.intermediate_size)

# %% Save, and open without metaprune
with tempfile.TemporaryDirectory() as folder:
    small.save(f"{folder}/small")
    plain = AutoModelForCausalLM.from_pretrained(f"{folder}/small").eval()
with torch.no_grad():
    difference = (plain(**batches[0]).logits - small.model(**batches[0]).logits).abs().max().item()
print("largest difference:", difference)
assert difference < 1e-5
