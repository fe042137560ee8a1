"""Small models of every family the graph layer must understand, each with example inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Family = Callable[[], tuple[nn.Module, Any]]
FAMILIES: dict[str, Family] = {}


def family(builder: Family) -> Family:
    FAMILIES[builder.__name__] = builder
    return builder


def image(channels: int = 3, size: int = 8) -> tuple[torch.Tensor]:
    return (torch.randn(2, channels, size, size),)


class Lambda(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Residual(nn.Module):
    def __init__(self, channels: int, out: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut: nn.Module = nn.Sequential()
        if stride > 1 and shortcut == "A":
            pad = (out - channels) // 2
            self.shortcut = Lambda(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, pad, pad)))
        elif stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def _resnet(shortcut: str) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 1, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        Residual(8, 8, 1, shortcut),
        Residual(8, 16, 2, shortcut),
        Residual(16, 32, 2, shortcut),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


@family
def mlp() -> tuple[nn.Module, Any]:
    layers = [nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 4)]
    return nn.Sequential(*layers), (torch.randn(3, 6),)


@family
def mlp_sigmoid() -> tuple[nn.Module, Any]:
    return nn.Sequential(nn.Linear(6, 12), nn.Sigmoid(), nn.Linear(12, 4)), (torch.randn(3, 6),)


@family
def plain_cnn_flatten() -> tuple[nn.Module, Any]:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 10, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(160, 7),
        nn.ReLU(),
        nn.Linear(7, 4),
    )
    return model, image()


@family
def resnet_projection() -> tuple[nn.Module, Any]:
    return _resnet("B"), image()


@family
def resnet_option_a() -> tuple[nn.Module, Any]:
    return _resnet("A"), image()


class InvertedResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.expand = nn.Conv2d(8, 24, 1)
        self.bn = nn.BatchNorm2d(24)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.squeeze = nn.Conv2d(24, 6, 1)
        self.excite = nn.Conv2d(6, 24, 1)
        self.project = nn.Conv2d(24, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.stem(x))
        y = F.relu6(self.depthwise(F.relu6(self.bn(self.expand(x)))))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        x = x + self.project(y * gate)
        return self.head(x.mean((2, 3)))


@family
def inverted_residual_squeeze_excitation() -> tuple[nn.Module, Any]:
    return InvertedResidual(), image()


@family
def depthwise_multiplier() -> tuple[nn.Module, Any]:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.Conv2d(6, 12, 3, groups=6),
        nn.ReLU(),
        nn.Conv2d(12, 4, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    return model, image()


@family
def grouped_convolution() -> tuple[nn.Module, Any]:
    model = nn.Sequential(
        nn.Conv2d(3, 12, 1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 18, 3, padding=1, groups=3),
        nn.ReLU(),
        nn.Conv2d(18, 5, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )
    return model, image()


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 5, 3, padding=1)
        self.bn = nn.BatchNorm2d(9)
        self.c = nn.Conv2d(9, 6, 3, padding=1)
        self.fc = nn.Linear(15 * 16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = F.relu(self.a(x))
        b = F.relu(self.b(a))
        ab = F.relu(self.bn(torch.cat([a, b], 1)))
        c = F.relu(self.c(ab))
        return self.fc(F.avg_pool2d(torch.cat([ab, c], 1), 2).flatten(1))


@family
def dense_concatenation() -> tuple[nn.Module, Any]:
    return Dense(), image()


@family
def group_norm() -> tuple[nn.Module, Any]:
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3),
        nn.GroupNorm(3, 12),
        nn.ReLU(),
        nn.Conv2d(12, 6, 3),
        nn.Flatten(),
        nn.Linear(96, 4),
    )
    return model, image()


@family
def layer_norm_mlp() -> tuple[nn.Module, Any]:
    layers = [nn.Linear(6, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 9), nn.RMSNorm(9)]
    return nn.Sequential(*layers, nn.Linear(9, 4)), (torch.randn(3, 6),)


class FusedAttention(nn.Module):
    def __init__(self, dim: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(6, dim)
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.head = nn.Linear(dim, 3)
        self.heads, self.head_dim = heads, dim // heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        q, k, v = (t.view(b, n, self.heads, self.head_dim).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, -1)
        x = x + self.proj(y)
        return self.head(x.mean(1))


@family
def fused_attention() -> tuple[nn.Module, Any]:
    return FusedAttention(), (torch.randn(2, 5, 6),)


@family
def vit() -> tuple[nn.Module, Any]:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        image_size=8,
        patch_size=4,
        num_labels=5,
    )
    return ViTForImageClassification(config), {"pixel_values": image()[0]}


@family
def llama() -> tuple[nn.Module, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=30,
        tie_word_embeddings=True,
        max_position_embeddings=32,
    )
    return LlamaForCausalLM(config), {"input_ids": torch.randint(0, 30, (2, 7))}


def build(
    name: str, dtype: torch.dtype = torch.float32, gain: float = 1.0
) -> tuple[nn.Module, Any]:
    """A family's model with weights of gain about one, so that wrong graphs cannot hide."""
    torch.manual_seed(0)
    model, inputs = FAMILIES[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = max(parameter[0].numel(), 1) if parameter.dim() > 1 else 1
            scale = fan_in**-0.5 if parameter.dim() > 1 else 0.5
            parameter.copy_(torch.randn_like(parameter) * gain * scale + (parameter.dim() == 1))
        for key, buffer in model.named_buffers():
            if key.endswith("running_mean"):
                buffer.normal_()
            elif key.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    model = model.to(dtype).eval()

    def cast(v: Any) -> Any:
        return v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v

    if isinstance(inputs, dict):
        return model, {k: cast(v) for k, v in inputs.items()}
    return model, tuple(map(cast, inputs))


def run(model: nn.Module, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        result = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    return result.logits if hasattr(result, "logits") else result
