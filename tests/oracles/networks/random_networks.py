"""A grammar of small random networks, for properties that every network must have.

A network is a value: nested tuples that hypothesis draws and shrinks, and that `build` turns into
a module. Where a block does not fit the channels it meets (groups that do not divide), it falls
back to its plain form, so every sentence of the grammar is a network.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn

Spec = tuple[Any, ...]

ACTIVATIONS = {
    "relu": F.relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "hardswish": F.hardswish,
}
_widths = st.sampled_from([4, 6, 8])
_activations = st.sampled_from(sorted(ACTIVATIONS))


def _nested(leaf: st.SearchStrategy[Spec]) -> st.SearchStrategy[list[Spec]]:
    """Sequences of blocks, some of which hold sequences of blocks."""

    def longer(blocks: st.SearchStrategy[list[Spec]]) -> st.SearchStrategy[list[Spec]]:
        inner = st.tuples(
            st.sampled_from(["residual", "dense", "split", "uneven", "twice", "sum"]), blocks
        )
        return st.lists(leaf | inner, min_size=1, max_size=3)

    return st.recursive(st.lists(leaf, min_size=1, max_size=2), longer, max_leaves=5)


_image_leaf = st.one_of(
    st.tuples(st.just("conv"), _widths, st.sampled_from([1, 1, 2]), st.booleans()),
    st.tuples(st.just("depthwise"), st.sampled_from([1, 2])),
    st.tuples(st.just("norm"), st.sampled_from(["batch", "group", "instance", "nhwc"])),
    st.tuples(st.just("act"), _activations),
    st.tuples(st.just("shuffle"), st.just(2)),
    st.tuples(st.just("excite")),
    st.tuples(st.just("glu"), st.booleans()),
    st.tuples(st.just("padded")),
    st.tuples(st.just("scale"), st.booleans()),
    st.tuples(st.just("pool"), st.booleans()),
)
_sequence_leaf = st.one_of(
    st.tuples(st.just("linear"), _widths, st.booleans()),
    st.tuples(st.just("norm"), st.sampled_from(["layer", "rms", "spelled"])),
    st.tuples(st.just("act"), _activations),
    st.tuples(
        st.just("attention"),
        st.sampled_from([(2, 2), (4, 2), (2, 1)]),
        st.sampled_from(["separate", "chunked", "packed"]),
        st.booleans(),
    ),
    st.tuples(st.just("gated"), _widths),
    st.tuples(st.just("tied"), _widths),
    st.tuples(st.just("glu"), st.booleans()),
    st.tuples(st.just("scale"), st.booleans()),
    st.tuples(st.just("mixer"), st.just(5)),
    st.tuples(st.just("depthwise1d")),
)

images = st.tuples(
    st.just("image"), _widths, _nested(_image_leaf), st.sampled_from(["flat", "mean", "max"])
)
sequences = st.tuples(
    st.sampled_from(["features", "tokens"]),
    _widths,
    _nested(_sequence_leaf),
    st.sampled_from(["each", "mean", "flat"]),
)
networks = images | sequences


def build(spec: Spec) -> tuple[nn.Module, tuple[torch.Tensor]]:
    """The module of a sentence, in float64, and inputs for it."""
    domain, width, blocks, head = spec
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _Network(domain, width, blocks, head).double().eval()
        if domain == "image":
            return model, (torch.randn(2, 3, 4, 4, dtype=torch.float64),)
        if domain == "tokens":
            return model, (torch.randint(0, 7, (2, 3)),)
        return model, (torch.randn(2, 3, 5, dtype=torch.float64),)


class _Network(nn.Module):
    def __init__(self, domain: str, width: int, blocks: list[Spec], head: str) -> None:
        super().__init__()
        self.image, self.head = domain == "image", head
        if domain == "image":
            self.stem: nn.Module = nn.Conv2d(3, width, 3, padding=1)
        elif domain == "tokens":
            self.stem = nn.Embedding(7, width)
        else:
            self.stem = nn.Linear(5, width)
        self.body = Blocks(blocks, width, self.image)
        # What the head sees depends on the pools: ask.
        with torch.no_grad():
            spatial = (4, 4) if self.image else (3,)
            shape = (1, width, *spatial) if self.image else (1, *spatial, width)
            features = self._summary(self.body.eval()(torch.zeros(shape))).shape[-1]
        self.out = nn.Linear(features, 3)

    def _summary(self, x: torch.Tensor) -> torch.Tensor:
        if self.head == "flat":
            return x.flatten(1)
        if self.head == "each":
            return x
        if self.head == "max":
            return F.adaptive_max_pool2d(x, 1).flatten(1)
        return x.mean((2, 3) if self.image else 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self._summary(self.body(self.stem(x))))


class Blocks(nn.Module):
    """Blocks one after another; `out` is the width behind them."""

    def __init__(self, specs: list[Spec], width: int, image: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for kind, *arguments in specs:
            block = _BLOCKS[kind](width, image, *arguments)
            self.blocks.append(block)
            width = block.out
        self.out = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def _map(width: int, out: int, image: bool, bias: bool = True) -> nn.Module:
    return nn.Conv2d(width, out, 1, bias=bias) if image else nn.Linear(width, out, bias=bias)


class Plain(nn.Module):
    """One module that maps `width` to `out` channels."""

    def __init__(self, module: nn.Module, out: int) -> None:
        super().__init__()
        self.module, self.out = module, out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x)


def conv(width: int, image: bool, out: int, groups: int, bias: bool) -> nn.Module:
    groups = groups if width % groups == 0 and out % groups == 0 else 1
    return Plain(nn.Conv2d(width, out, 3, padding=1, groups=groups, bias=bias), out)


def depthwise(width: int, image: bool, multiplier: int) -> nn.Module:
    out = width * multiplier if width < 8 else width
    return Plain(nn.Conv2d(width, out, 3, padding=1, groups=width), out)


def linear(width: int, image: bool, out: int, bias: bool) -> nn.Module:
    return Plain(nn.Linear(width, out, bias=bias), out)


class Norm(nn.Module):
    def __init__(self, width: int, image: bool, kind: str) -> None:
        super().__init__()
        self.kind, self.out = kind, width
        self.norm: nn.Module = {
            "batch": lambda: nn.BatchNorm2d(width),
            "group": lambda: nn.GroupNorm(2 if width % 2 == 0 else 1, width),
            "instance": lambda: nn.InstanceNorm2d(width, affine=True),
            "nhwc": lambda: nn.LayerNorm(width),
            "layer": lambda: nn.LayerNorm(width),
            "rms": lambda: nn.RMSNorm(width, eps=1e-6),
            "spelled": lambda: _SpelledRMS(width),
        }[kind]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "nhwc":
            return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.norm(x)


class _SpelledRMS(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Act(nn.Module):
    def __init__(self, width: int, image: bool, name: str) -> None:
        super().__init__()
        self.name, self.out = name, width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ACTIVATIONS[self.name](x)


class Residual(nn.Module):
    def __init__(self, width: int, image: bool, blocks: list[Spec]) -> None:
        super().__init__()
        self.inner, self.out = Blocks(blocks, width, image), width
        self.back = _map(self.inner.out, width, image)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(x)
        return _match(x, y) + self.back(y)


class Twice(Residual):
    """The same module in two places."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            x = torch.tanh(self.back(self.inner(x)))
        return x


class Sum(Residual):
    """Two branches, stacked and added up."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(x)
        return torch.stack([_match(x, y), self.back(y)]).sum(0)


class Dense(nn.Module):
    def __init__(self, width: int, image: bool, blocks: list[Spec]) -> None:
        super().__init__()
        self.inner, self.image = Blocks(blocks, width, image), image
        self.out = width + self.inner.out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(x)
        return torch.cat([_match(x, y), y], 1 if self.image else -1)


class Split(nn.Module):
    """One half passes, the other is transformed (ShuffleNetV2, cross-stage partial networks)."""

    def __init__(self, width: int, image: bool, blocks: list[Spec]) -> None:
        super().__init__()
        self.image, self.first = image, (width + 1) // 2
        self.inner = Blocks(blocks, width - self.first, image)
        self.out = self.first + self.inner.out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dim = 1 if self.image else 2
        a, b = x.chunk(2, dim)
        y = self.inner(b)
        return torch.cat([y, _match(a, y)], dim)


class Uneven(Split):
    """A run of channels passes, the others are transformed."""

    def __init__(self, width: int, image: bool, blocks: list[Spec]) -> None:
        super().__init__(width, image, blocks)
        self.first = 1
        self.inner = Blocks(blocks, width - 1, image)
        self.out = 1 + self.inner.out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = (x[:, :1], x[:, 1:]) if self.image else (x[..., :1], x[..., 1:])
        y = self.inner(b)
        return torch.cat([_match(a, y), y], 1 if self.image else 2)


def _match(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Pooled to the picture of `like`, where there is one."""
    return x if x.dim() == 3 else F.adaptive_avg_pool2d(x, like.shape[2:])


class Shuffle(nn.Module):
    def __init__(self, width: int, image: bool, groups: int) -> None:
        super().__init__()
        self.groups, self.out = groups if width % groups == 0 else 1, width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        return x.view(b, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(b, c, h, w)


class Excite(nn.Module):
    def __init__(self, width: int, image: bool) -> None:
        super().__init__()
        self.down, self.up, self.out = nn.Conv2d(width, 2, 1), nn.Conv2d(2, width, 1), width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))


class Glu(nn.Module):
    def __init__(self, width: int, image: bool, spelled: bool) -> None:
        super().__init__()
        self.spelled, self.image, self.out = spelled, image, width
        self.up = _map(width, 2 * width, image)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dim = 1 if self.image else -1
        if not self.spelled:
            return F.glu(self.up(x), dim)
        a, b = self.up(x).chunk(2, dim)
        return a * F.silu(b)


class Padded(nn.Module):
    """A shortcut that pads channels with zeros (He et al. 2016, option A)."""

    def __init__(self, width: int, image: bool) -> None:
        super().__init__()
        self.out = width + 3
        self.conv = nn.Conv2d(width, self.out, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + F.pad(x, (0, 0, 0, 0, 1, 2))


class Scale(nn.Module):
    def __init__(self, width: int, image: bool, add: bool) -> None:
        super().__init__()
        self.add, self.out = add, width
        self.gamma = nn.Parameter(torch.ones(width, 1, 1) if image else torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.gamma if self.add else self.gamma * x


class Pool(nn.Module):
    def __init__(self, width: int, image: bool, maximum: bool) -> None:
        super().__init__()
        self.maximum, self.out = maximum, width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] < 2:
            return x
        return F.max_pool2d(x, 2) if self.maximum else F.avg_pool2d(x, 2)


class Attention(nn.Module):
    def __init__(
        self, width: int, image: bool, heads: tuple[int, int], form: str, eager: bool
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads = heads if form == "separate" else (heads[0], heads[0])
        self.form, self.eager, self.dim, self.out = form, eager, 2, width
        q, kv = self.heads * self.dim, self.kv_heads * self.dim
        if form == "separate":
            self.q, self.k, self.v = (nn.Linear(width, n) for n in (q, kv, kv))
        else:
            self.qkv = nn.Linear(width, 3 * q)
        self.o = nn.Linear(q, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        if self.form == "packed":
            q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, self.dim).permute(2, 0, 3, 1, 4)
        else:
            parts = (
                (self.q(x), self.k(x), self.v(x))
                if self.form == "separate"
                else self.qkv(x).chunk(3, -1)
            )
            q, k, v = (t.view(b, n, -1, self.dim).transpose(1, 2) for t in parts)
        if self.eager:
            groups = self.heads // self.kv_heads
            if groups > 1:
                shape = (b, self.kv_heads, groups, n, self.dim)
                k, v = (
                    t[:, :, None].expand(shape).reshape(b, self.heads, n, self.dim) for t in (k, v)
                )
            y = (q @ k.transpose(2, 3) * self.dim**-0.5).softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=self.heads != self.kv_heads)
        return self.o(y.transpose(1, 2).reshape(b, n, -1))


class Gated(nn.Module):
    def __init__(self, width: int, image: bool, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden), nn.Linear(width, hidden, bias=False)
        self.down, self.out = nn.Linear(hidden, width), width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Tied(nn.Module):
    """An autoencoder whose decoder is its encoder transposed."""

    def __init__(self, width: int, image: bool, hidden: int) -> None:
        super().__init__()
        self.weight, self.out = nn.Parameter(torch.ones(hidden, width)), width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(torch.tanh(F.linear(x, self.weight)), self.weight.t())


class Mixer(nn.Module):
    """A map over tokens."""

    def __init__(self, width: int, image: bool, hidden: int) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(3, hidden), nn.Linear(hidden, 3), width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.two(F.gelu(self.one(x.transpose(1, 2)))).transpose(1, 2)


class Depthwise1d(nn.Module):
    """A causal convolution channel by channel, as in state-space blocks."""

    def __init__(self, width: int, image: bool) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(width, width, 2, padding=1, groups=width), width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)


_BLOCKS: dict[str, Any] = {
    "conv": conv,
    "depthwise": depthwise,
    "linear": linear,
    "norm": Norm,
    "act": Act,
    "residual": Residual,
    "twice": Twice,
    "sum": Sum,
    "dense": Dense,
    "split": Split,
    "uneven": Uneven,
    "shuffle": Shuffle,
    "excite": Excite,
    "glu": Glu,
    "padded": Padded,
    "scale": Scale,
    "pool": Pool,
    "attention": Attention,
    "gated": Gated,
    "tied": Tied,
    "mixer": Mixer,
    "depthwise1d": Depthwise1d,
}
