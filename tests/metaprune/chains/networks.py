"""Five kinds of networks to prune twice: a builder, inputs, and how to build them again."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

from training.networks import cifar_resnet


class OwnBlock(nn.Module):
    """A gated block with a residual sum, as a user writes it."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.gate = nn.Linear(width, inner), nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return x + self.down(self.up(y) * torch.sigmoid(self.gate(y)))


class Own(nn.Module):
    """A user's class, without a configuration."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 24)
        self.blocks = nn.ModuleList(OwnBlock(24, 32) for _ in range(3))
        self.head = nn.Linear(24, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def resnet() -> tuple[nn.Module, Any]:
    return cifar_resnet(8, width=8), (torch.randn(4, 3, 16, 16),)


def vit() -> tuple[nn.Module, Any]:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
        image_size=16, patch_size=8, num_labels=10,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config), {
        "pixel_values": torch.randn(4, 3, 16, 16)
    }


def llama() -> tuple[nn.Module, Any]:
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=48, max_position_embeddings=64,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config), {"input_ids": torch.randint(0, 64, (2, 9))}


def t5() -> tuple[nn.Module, Any]:
    config = transformers.T5Config(
        vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        decoder_start_token_id=0,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config), {
        "input_ids": torch.randint(1, 64, (2, 9)),
        "decoder_input_ids": torch.randint(1, 64, (2, 5)),
    }


def own() -> tuple[nn.Module, Any]:
    return Own(), (torch.randn(4, 8),)


KINDS = {"resnet": resnet, "vit": vit, "llama": llama, "t5": t5, "own": own}

SOURCES: dict[str, dict[str, Any]] = {
    "resnet": {
        "source": "family",
        "family": "cifar_resnet",
        "options": {"depth": 8, "width": 8},
    },
    "own": {"source": "function", "function": "tests.metaprune.chains.networks:Own"},
}


def build(kind: str, seed: int = 0) -> tuple[nn.Module, Any]:
    """A network with weights of a seed, and inputs that do not depend on it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, _ = KINDS[kind]()
        torch.manual_seed(99)
        inputs = KINDS[kind]()[1]
    return model.eval(), inputs


def outputs(model: nn.Module, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        found = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    return found if isinstance(found, torch.Tensor) else found.logits


CHAINS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "channels twice": ({"target": {"macs": "80%"}}, {"target": {"macs": "80%"}}),
    "channels, then 2:4": ({"target": {"macs": "80%"}, "round_to": 4}, {"pattern": "2:4"}),
    "masks, then low rank": (
        {"pattern": "unstructured", "target": {"sparsity": 0.4}},
        {"pattern": "low-rank", "target": {"params": "80%"}},
    ),
    "blocks, then channels": (
        {"pattern": "blocks", "target": {"macs": "85%"}},
        {"target": {"macs": "80%"}},
    ),
    "equal widths, then channels": (
        {"pattern": "equal-widths", "target": {"macs": "80%"}},
        {"target": {"macs": "80%"}},
    ),
    "masks, then channels": (
        {"pattern": "unstructured", "target": {"sparsity": 0.5}},
        {"target": {"macs": "75%"}},
    ),
}
