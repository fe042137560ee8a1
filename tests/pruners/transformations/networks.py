"""Networks with axes that may be turned, and what a transformation is asked about them."""

from __future__ import annotations

import torch
import transformers
from torch import nn

from graphs import Network, trace
from pruners.solvers import MaskPattern
from pruners.transformations import MaskRequest
from tests.graphs.symmetries.networks import (
    Attention,
    Bottleneck,
    OffsetNorm,
    Stream,
    images,
    lively,
    tokens,
    vectors,
)


def llama(*, tied: bool = True) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=24, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=4, tie_word_embeddings=tied,
    )  # fmt: skip
    return lively(transformers.LlamaForCausalLM(config))


def ids(count: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"input_ids": torch.randint(0, 24, (count, 6), generator=generator)}


CASES = {
    "layer norm": lambda: (lively(Stream(bias=True)), tokens()),
    "root mean square": lambda: (lively(Stream(nn.RMSNorm)), tokens()),
    "offset norm, tied": lambda: (lively(Stream(OffsetNorm, tied=True)), tokens()),
    "attention": lambda: (lively(Attention()), vectors()),
    "bottleneck": lambda: (lively(Bottleneck()), images()),
    "Llama": lambda: (llama(), ids()),
}
"""Name → (model, example inputs), float64."""

EXACT = {name: 1e-5 if name == "Llama" else 1e-10 for name in CASES}
"""How far outputs may be off, of the largest: norms of transformers are in single precision."""


def request(
    net: Network, model: nn.Module, batches=(), zeros="unstructured", density=0.5
) -> MaskRequest:
    return MaskRequest(net, model, list(batches), MaskPattern.parse(zeros), density, "admm")


def case(name: str, zeros: str = "unstructured", *, data: bool = True) -> MaskRequest:
    model, inputs = CASES[name]()
    return request(trace(model, inputs), model, [inputs] if data else (), zeros)


def outputs(model: nn.Module, inputs) -> torch.Tensor:
    with torch.no_grad():
        found = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    return getattr(found, "logits", found)


def assert_same_function(name, net, moves):
    """Moves keep the function of a case: its model, inputs, and outputs."""
    model, inputs = CASES[name]()
    expected = outputs(model, inputs)
    moved = outputs(moves.apply(net).to_model(), inputs)
    assert (moved - expected).abs().max() < EXACT[name] * expected.abs().max()
    return model, inputs, expected
