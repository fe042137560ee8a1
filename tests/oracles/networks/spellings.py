"""One call each of the rarer operators, and of those that torch calls under another name.

`test_every_operator_is_called_by_some_model` tells which operators no model calls. What torch calls
only inside others is called by its ATen name, as an exported program may.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.oracles.networks.cases import Model, case, sequence, weight
from tests.oracles.networks.elementwise import table, words

aten: Any = torch.ops.aten
Pair = tuple[nn.Module, Any]


def square(y: torch.Tensor) -> torch.Tensor:
    """A symmetric matrix over tokens, well conditioned."""
    return y @ y.mT + 5 * torch.eye(y.shape[1], dtype=y.dtype)


def whole(y: torch.Tensor) -> torch.Tensor:
    return (8 * torch.tanh(y)).round().to(torch.int64)


def once(number: torch.Tensor) -> torch.Tensor:
    """A number for each example, to be multiplied with tokens and features."""
    return torch.tanh(number)[:, None, None]


TWO = words("fmax minimum multiply xlogy logical_or logical_xor")
BITS = words("bitwise_and bitwise_or bitwise_xor")
PARTS = words("fix signbit conj conj_physical resolve_conj angle")
table("exact", {n: lambda y, n=n: getattr(torch, n)(y, y.abs()).to(y.dtype) for n in TWO})
table("exact", {n: lambda y, n=n: getattr(torch, n)(whole(y), whole(y)) * y for n in BITS})
table("exact", {n: lambda y, n=n: getattr(torch, n)(y) * y for n in PARTS})
table(
    "exact",
    {
        "shifts": lambda y: ((whole(y) << 2) + (whole(y).abs() >> 1)).to(y.dtype),
        "bitwise_not": lambda y: y * (~whole(y)).to(y.dtype),
        "exclusive_or": lambda y: ((y > 0.1) ^ (y > 0.5)).to(y.dtype),
        "divide": lambda y: torch.divide(y, 2) + torch.true_divide(y, 3) + (y.detach() // 0.5),
        "heaviside": lambda y: y * torch.heaviside(y.detach(), y.detach()),
        "clamp_max": lambda y: torch.clamp_max(y, 0.4),
        "min_of_two": lambda y: torch.min(y, 2 * y),
        "rrelu": lambda y: F.rrelu(y, training=False) + aten.rrelu(y),
        "drops": lambda y: F.feature_alpha_dropout(F.dropout1d(y, 0.1, False), 0.1, False),
        "native_dropout": lambda y: aten.native_dropout(y, 0.1, False)[0],
        "threshold_backward": lambda y: aten.threshold_backward(y, y, 0.0),
        "expit_less_a_half": lambda y: y * aten.special_expit(y),
        "zero": lambda y: y + torch.tanh(y).clone().zero_(),
        "copies": lambda y: aten._to_copy(y, dtype=torch.float64).to(y.dtype),
        "conjugate": lambda y: aten._conj(torch.complex(y, y)).real,
        "broadcast_to": lambda y: y * torch.broadcast_to(y[:, :1], y.shape),
        "concat": lambda y: torch.concat([y, y], 1) + torch.concatenate([y, y], 1),
        "row_stack": lambda y: torch.row_stack([y, y]),
        "split": lambda y: aten.split.Tensor(y, 3, 1)[0] + torch.tensor_split(y, (3,), 1)[0],
        "views_by_name": lambda y: aten._unsafe_view(torch.view_copy(y, y.shape), y.shape),
        "unsafe_index": lambda y: aten._unsafe_index(y, [None, torch.tensor([1, 0])]),
        "index_copy": lambda y: y.index_copy(1, torch.tensor([0, 2]), y[:, :2]),
        "index_fill": lambda y: y.index_fill(1, torch.tensor([0, 2]), 0.0),
        "scatter_reduce": lambda y: y.scatter_reduce(1, torch.zeros_like(whole(y)), y, "amax"),
        "select_scatter": lambda y: torch.select_scatter(y, y[:, 0], 1, 2),
        "slice_scatter": lambda y: torch.slice_scatter(y, y[:, :2], 1, 1, 3),
        "norm_of_tokens": lambda y: aten.norm.ScalarOpt_dim(y, 2, [1], True) + y,
        "scalar_tensor": lambda y: y * torch.scalar_tensor(2.0, dtype=y.dtype),
        "triangles": lambda y: (
            y[:, torch.tril_indices(5, 5)[0]] + y[:, torch.triu_indices(5, 5)[1]]
        ),
        "constant_pad_of_tokens": lambda y: aten.constant_pad_nd(y, (0, 0, 1, 1)),
    },
)
table(
    "bias-fold",
    {
        "addcdiv": lambda y: torch.addcdiv(y, y, y.abs() + 1.0),
        "isclose": lambda y: torch.isclose(y, 2 * y).to(y.dtype),
        "normal_distribution": lambda y: torch.special.ndtr(y) + torch.special.log_ndtr(y),
        "std_mean_of_tokens": lambda y: torch.exp(torch.std_mean(y, 1)[0]),
        "empty": lambda y: y + torch.empty(6, dtype=y.dtype).zero_() + torch.empty_like(y).zero_(),
        "new_full": lambda y: y * y.new_full((6,), 0.5) + y.new_empty(6).fill_(0.2),
        "softmax_by_name": lambda y: aten._softmax(y, 1, False) + aten._log_softmax(y, 1, False),
    },
)
table(
    "data-dependent",
    {"searchsorted": lambda y: torch.searchsorted(torch.tensor([-0.5, 0.1, 1]), y).to(y.dtype)},
)
table("norm-changed", {"std_and_mean": lambda y: sum(torch.std_mean(y, -1, keepdim=True))}, out=1)
table("", {"argmin": lambda y: y.argmin(-1, keepdim=True).to(y.dtype)}, out=1)
table("", {"logspace": lambda y: y * torch.logspace(0, 1, 6, dtype=y.dtype)}, why="numbered")
table(
    "",
    {
        "pairs": lambda y: y * torch.cartesian_prod(torch.arange(2), torch.arange(3))[:, 0],
    },
    why="coordinates of a grid",
)

DRAWN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "rand": lambda y: torch.rand(6),
    "randn": lambda y: torch.randn(6),
    "randint": lambda y: torch.randint(0, 4, (6,)),
    "randperm": lambda y: torch.randperm(6),
    "normal": lambda y: torch.normal(0.0, 1.0, (6,)),
    "randn_like": torch.randn_like,
    "randint_like": lambda y: torch.randint_like(y, 4),
    "bernoulli": lambda y: torch.bernoulli(torch.sigmoid(y)),
    "exponential": lambda y: torch.empty_like(y).exponential_(),
    "multinomial": lambda y: torch.multinomial(y[0].abs() + 1, 6),
}
table(
    "",
    {n: lambda y, f=f: y + 0 * f(y).to(y.dtype) for n, f in DRAWN.items()},
    why="random numbers",
)

FOURIER = {
    **dict.fromkeys(words("fftn ifftn rfftn irfftn hfft ihfft hfftn ihfftn"), (1,)),
    **dict.fromkeys(words("ifft2 hfft2 ihfft2"), (0, 1)),
}


def transformed(y: torch.Tensor, name: str, dims: tuple[int, ...]) -> torch.Tensor:
    dim: Any = dims[0] if name in ("hfft", "ihfft") else dims
    return getattr(torch.fft, name)(y, dim=dim).real


table(
    "exact", {n: lambda y, n=n, dims=dims: transformed(y, n, dims) for n, dims in FOURIER.items()}
)
table("exact", {n: lambda y, n=n: getattr(torch.fft, n)(y, 1) for n in ("fftshift", "ifftshift")})

MATRICES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "adjoint": lambda m: m.adjoint(),
    "inverse": torch.inverse,
    "pinv": torch.linalg.pinv,
    "qr": lambda m: torch.linalg.qr(m)[1].abs(),
    "svd": lambda m: m * torch.linalg.svd(m)[1][..., None],
    "eigh": lambda m: m * torch.linalg.eigh(m)[0][..., None],
    "eigvalsh": lambda m: m * torch.linalg.eigvalsh(m)[..., None],
    "det": lambda m: m * once(torch.linalg.det(m)),
    "slogdet": lambda m: m * once(torch.linalg.slogdet(m)[1]),
    "logdet": lambda m: m * once(torch.logdet(m)),
    "matrix_norm": lambda m: m * once(torch.linalg.matrix_norm(m)),
    "matrix_power_by_name": lambda m: aten.matrix_power(m, 2),
    "trace": lambda m: m * torch.trace(m[0]),
    "diag": lambda m: m * torch.diag(m[0]),
    "diag_embed": lambda m: torch.diag_embed(m[..., 0]),
    "diagflat": lambda m: m + torch.diagflat(m[0, 0]),
    "block_diag": lambda m: m + torch.block_diag(m[0, :2, :2], m[1, :3, :3]),
}
table("exact", {n: lambda y, f=f: f(square(y)) @ y for n, f in MATRICES.items()})


def spatial(rank: int, functions: dict[str, Callable[[Any], Any]]) -> None:
    """Functions of channels and `rank` dimensions of space leave the channels free."""
    conv, mean = getattr(nn, f"Conv{rank}d"), tuple(range(2, 2 + rank))
    for name, function in functions.items():

        def build(function: Callable[[Any], Any] = function) -> Pair:
            model = Model(
                lambda m, x: m.head(function(torch.relu(m.conv(x))).mean(mean)),
                conv=conv(3, 6, 1),
                head=nn.Linear(6, 3),
            )
            return model, (torch.randn(2, 3, *(4,) * rank),)

        build.__name__ = f"{name}_{rank}d"
        case("conv.out")(build)


def padded(mode: str, rank: int) -> Callable[[Any], Any]:
    return lambda y: getattr(aten, f"{mode}_pad{rank}d")(y, (1,) * (2 * rank))


def sampled(mode: str) -> Callable[[Any], Any]:
    return lambda y: F.interpolate(y, scale_factor=2.0, mode=mode)


def unpooled(y: torch.Tensor) -> torch.Tensor:
    return F.max_unpool3d(*aten.max_pool3d_with_indices(y, 2), 2)


def chosen(y: torch.Tensor) -> torch.Tensor:
    """Pools whose places are drawn."""
    rank = y.dim() - 2
    pool = F.fractional_max_pool2d if rank == 2 else F.fractional_max_pool3d
    return pool(y, 2, (2,) * rank, _random_samples=torch.full((2, 6, rank), 0.5, dtype=y.dtype))


for _rank in (1, 2, 3):
    spatial(_rank, {f"{mode}_pad": padded(mode, _rank) for mode in ("reflection", "replication")})
for _rank in (1, 3):
    spatial(_rank, {mode.replace("-", "_"): sampled(mode) for mode in ("nearest", "nearest-exact")})
spatial(
    1,
    {
        "pools": lambda y: F.avg_pool1d(y, 2) + F.max_pool1d(y, 2) + F.adaptive_avg_pool1d(y, 2),
    },
)
spatial(
    2,
    {
        "bicubic": sampled("bicubic"),
        "fractional_pool": chosen,
        "adaptive_pool_by_name": lambda y: aten._adaptive_avg_pool2d(y, (2, 2)),
        "grid_by_name": lambda y: aten.grid_sampler_2d(
            y, torch.zeros(2, 2, 2, 2, dtype=y.dtype) + 0.1, 0, 0, False
        ),
    },
)
spatial(
    3,
    {
        "adaptive_pools": lambda y: (
            F.adaptive_max_pool3d(y, 2) + aten._adaptive_avg_pool3d(y, [2] * 3)
        ),
        "unpooled": unpooled,
        "fractional_pool": chosen,
        "grid_by_name": lambda y: aten.grid_sampler_3d(
            y, torch.zeros(2, 2, 2, 2, 3, dtype=y.dtype) + 0.1, 0, 0, False
        ),
    },
)


def matrices(function: Callable[..., Any], *shapes: tuple[int, ...]) -> Pair:
    """A product of features, as rows of a matrix, with parameters of the given shapes."""
    parts = {f"w{i}": weight(*shape) for i, shape in enumerate(shapes)}

    def forward(m: Any, x: Any) -> Any:
        y = torch.relu(m.embed(x)).flatten(0, 1)
        return m.head(function(y, *(getattr(m, name) for name in parts)))

    return Model(forward, embed=nn.Linear(4, 6), **parts, head=nn.Linear(5, 3)), (sequence(),)


@case("embed.out w0.out")
def mm() -> Pair:
    return matrices(lambda y, w: torch.mm(y, w), (6, 5))


@case("embed.out w0.out")
def addmm() -> Pair:
    return matrices(lambda y, b, w: torch.addmm(b, y, w), (5,), (6, 5))


@case("embed.out w0.out")
def baddbmm() -> Pair:
    return matrices(lambda y, w: torch.baddbmm(y @ w, y[None], w[None])[0], (6, 5))


@case("embed.out w1.out")
def addmv_and_ger() -> Pair:
    return matrices(
        lambda y, w, v: torch.ger(torch.addmv(torch.ones(10, dtype=y.dtype), y, w), v), (6,), (5,)
    )


@case("cell.out")
def rnn_relu_cell() -> Pair:
    model = Model(
        lambda m, x: m.head(m.cell(x[:, 1], m.cell(x[:, 0]))),
        cell=nn.RNNCell(4, 6, nonlinearity="relu"),
        head=nn.Linear(6, 3),
    )
    return model, (sequence(),)


@case("embed.out")
def norms_by_name() -> Pair:
    """What torch calls below its norms in evaluation mode."""

    def forward(m: Any, x: Any) -> Any:
        y = m.embed(x).transpose(1, 2)
        stats = (m.bn.weight, m.bn.bias, m.bn.running_mean, m.bn.running_var)
        y = aten.native_batch_norm(y, *stats, False, 0.1, 1e-5)[0]
        y = aten._native_batch_norm_legit_no_training(y, *stats, 0.1, 1e-5)[0]
        return m.head(torch.relu(y.transpose(1, 2)))

    parts = {"embed": nn.Linear(4, 6), "bn": nn.BatchNorm1d(6), "head": nn.Linear(6, 3)}
    return Model(forward, **parts), (sequence(),)


@case("gain.out:norm-changed")
def layer_norm_by_name() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        y = aten.native_layer_norm(m.embed(x), [6], m.gain, m.shift, 1e-5)[0]
        return m.head(torch.relu(y))

    parts = {"embed": nn.Linear(4, 6), "gain": weight(6), "shift": weight(6)}
    return Model(forward, **parts, head=nn.Linear(6, 3)), (sequence(),)


@case("gain.out:norm-rescaled")
def root_mean_square_norm_by_name() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        y = aten._fused_rms_norm(m.embed(x), [6], m.gain, 1e-5)[0]
        return m.head(torch.relu(y))

    parts = {"embed": nn.Linear(4, 6), "gain": weight(6), "head": nn.Linear(6, 3)}
    return Model(forward, **parts), (sequence(),)


@case("bag.out")
def embedding_bag_by_name() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        found = aten._embedding_bag(m.bag, x.flatten(), torch.arange(0, 10, 5), False, 1)
        return m.head(torch.relu(found[0]))

    return Model(forward, bag=weight(8, 6), head=nn.Linear(6, 3)), (torch.randint(8, (2, 5)),)


@case("points.out:data-dependent points.out.2")
def distances_by_name() -> Pair:
    model = Model(
        lambda m, x: m.head(aten._cdist_forward(m.a(x), m.points, 2.0, None)),
        a=nn.Linear(4, 6),
        points=weight(7, 6),
        head=nn.Linear(7, 3),
    )
    return model, (sequence(),)


@case("embed.out:norm-changed g.out")
def weight_norm_by_name() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        w = aten._weight_norm_interface(m.v, m.g, 0)[0]
        return m.head(torch.relu(F.linear(m.embed(x), w)))

    parts = {"embed": nn.Linear(4, 6), "v": weight(5, 6), "g": weight(5, 1)}
    return Model(forward, **parts, head=nn.Linear(5, 3)), (sequence(),)


@case(embed__out="a Fourier transform over units", head__in="frequency")
def short_time_transforms() -> Pair:
    """Spectrograms of each feature over tokens, and back."""

    def forward(m: Any, x: Any) -> Any:
        y = torch.relu(m.embed(x)).mT.flatten(0, 1)
        window = torch.hann_window(4, dtype=y.dtype)
        found = torch.stft(y, 4, 2, window=window, return_complex=True)
        back = torch.istft(found, 4, 2, window=window, length=8)
        return m.head(back.view(2, 6, 8).mT)

    return Model(forward, embed=nn.Linear(4, 6), head=nn.Linear(6, 3)), (sequence(length=8),)


@case("embed.out:data-dependent", head__in="counted")
def histograms_of_features() -> Pair:
    def forward(m: Any, x: Any) -> Any:
        return m.head(torch.histc(m.embed(x), 5, -1.0, 1.0))

    return Model(forward, embed=nn.Linear(4, 6), head=nn.Linear(5, 3)), (sequence(),)
