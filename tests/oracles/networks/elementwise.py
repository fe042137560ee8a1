"""One call each: functions entry by entry, reductions, orders, joins and matrices, as a table.

A case is `head(function(embed(x)))`. Entry by entry, a dead unit stays zero where the function maps
zero to zero, and passes a constant on elsewhere. Over tokens everything leaves the features free;
over features it depends on what is done with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.oracles.networks.cases import Model, case, sequence

Function = Callable[[torch.Tensor], torch.Tensor]


def table(kind: str, functions: dict[str, Function], out: int = 6, why: str = "") -> None:
    """Register a case for each function; `kind` is the class of the features, "" if frozen."""
    for name, function in functions.items():

        def build(function: Function = function) -> tuple[nn.Module, Any]:
            model = Model(
                lambda m, x: m.head(function(m.embed(x))),
                embed=nn.Linear(4, 6),
                head=nn.Linear(out, 3),
            )
            return model, (sequence(),)

        build.__name__ = f"{name}_{kind or 'frozen'}".replace("-", "_")
        frozen = {} if kind else {"embed__out": why or ".* over units"}
        case(f"embed.out:{kind}" if kind else "", **frozen)(build)


def upper(y: torch.Tensor) -> torch.Tensor:
    """Entries above one."""
    return y.abs() + 1.5


def inner(y: torch.Tensor) -> torch.Tensor:
    """Entries between -1 and 1."""
    return torch.tanh(y)


def words(text: str) -> list[str]:
    return text.split()


ZERO_STAYS = words(
    "abs ceil floor round trunc frac sign sgn sin tan sinh asinh atan expm1 log1p sqrt square erf "
    "neg positive nan_to_num deg2rad rad2deg isnan isinf"
)
ZERO_MOVES = words("cos cosh exp exp2 erfc sinc logical_not isfinite")
LARGE = words("log log2 log10 rsqrt lgamma digamma acosh")
ACTIVATIONS = words(
    "relu relu6 leaky_relu elu celu selu gelu silu mish softsign tanhshrink hardshrink softshrink "
    "hardtanh hardswish"
)
GATES = words("sigmoid hardsigmoid softplus logsigmoid")

table("exact", {n: lambda y, n=n: getattr(torch, n)(y.abs()).to(y.dtype) for n in ZERO_STAYS})
table("bias-fold", {n: lambda y, n=n: getattr(torch, n)(y).to(y.dtype) for n in ZERO_MOVES})
table("exact", {n: lambda y, n=n: getattr(F, n)(y) for n in ACTIVATIONS})
table("bias-fold", {n: lambda y, n=n: getattr(F, n)(y) for n in GATES})
table("exact", {n: lambda y, n=n: getattr(torch, n)(inner(y)) for n in ("asin", "atanh", "erfinv")})
table(
    "bias-fold",
    {n: lambda y, n=n: getattr(torch, n)(upper(y)) for n in LARGE}
    | {"acos": lambda y: torch.acos(inner(y)), "logit": lambda y: torch.logit(torch.sigmoid(y))},
)
table(
    "exact",
    {
        "add_twice": lambda y: torch.add(y, y, alpha=2),
        "sub": lambda y: y - torch.tanh(y),
        "maximum": lambda y: torch.maximum(y, -y),
        "max_of_two": lambda y: torch.max(y, 2 * y),
        "fmin": lambda y: torch.fmin(y, y * 2),
        "clamp": lambda y: y.clamp(-1, 1).clamp_min(-0.5).clip(max=0.4),
        "clamp_by_tensors": lambda y: torch.clamp(y, -y.abs(), y.abs()),
        "addcmul": lambda y: torch.addcmul(y, y, y, value=0.5),
        "lerp": lambda y: torch.lerp(y, torch.relu(y), 0.3),
        "hypot": lambda y: torch.hypot(y, y),
        "atan2": lambda y: torch.atan2(y, y),
        "copysign": lambda y: torch.copysign(y, y),
        "power": lambda y: y**3,
        "remainder": lambda y: torch.remainder(y, 2) + torch.fmod(y, 0.7),
        "threshold": lambda y: F.threshold(y, 0.1, 0.0),
        "greater": lambda y: ((y > 0.1) | (y < -0.1)).to(y.dtype) + y.gt(0).logical_and(y < 1),
        "dropouts": lambda y: F.alpha_dropout(F.dropout(y, 0.1, False), 0.1, False),
        "casts": lambda y: y.to(torch.float64).type_as(y).contiguous().clone().detach(),
        "zeros_like": lambda y: y + torch.zeros_like(y) + torch.full_like(y, 0.0) * y,
        "in_place": lambda y: y.clone().mul_(2).relu_(),
        "signs": lambda y: torch.where(y > 0, y, 0.1 * y),
        "views": lambda y: y.movedim(1, 0).swapaxes(0, 1).mT.mT.view(y.shape).reshape_as(y),
        "joins": lambda y: torch.dstack([y, y])[..., :6] + torch.column_stack([y, y])[:, :5],
        "vstack": lambda y: torch.vstack([y, y]),
    },
)
table(
    "bias-fold",
    {
        "one_minus": lambda y: 1 - torch.relu(y),
        "reciprocal": lambda y: 1 / upper(y),
        "logaddexp": lambda y: torch.logaddexp(y, -y),
        "equal": lambda y: ((y == 0) | (y <= -0.1)).to(y.dtype),
        "two_to_the": lambda y: 2**y,
        "ones_like": lambda y: torch.ones_like(y) - y,
        "minimum_of_numbers": lambda y: torch.clamp_min(y, 0.2),
        "fill": lambda y: y + torch.tanh(y).clone().fill_(0.5),
    },
)

table(
    "exact",
    {
        "mean_over_tokens": lambda y: y.mean(1) + y.sum(1) + y.nansum(1) + y.nanmean(1),
        "norms_over_tokens": lambda y: y.norm(dim=1) + torch.linalg.vector_norm(y, 1, dim=1),
        "extremes_over_tokens": lambda y: y.amax(1) + y.amin(1) + y.min(1).values + y.max(1)[0],
        "ranks_over_tokens": lambda y: y.sort(1)[0] + y.median(1, True)[0] + y.mode(1, True)[0],
        "kth_over_tokens": lambda y: y.kthvalue(2, 1).values + y.nanmedian(1).values,
        "products_over_tokens": lambda y: y.prod(1) + y.cummin(1)[0].sum(1),
        "counts_over_tokens": lambda y: y.count_nonzero(1).to(y.dtype) + y.bool().any(1),
        "all_over_tokens": lambda y: y.bool().all(1).to(y.dtype),
        "narrow_tokens": lambda y: y.narrow(1, 1, 3).flipud(),
    },
)
table(
    "bias-fold",
    {
        "spread_over_tokens": lambda y: torch.exp(y.std(1)) + torch.var_mean(y, 1)[0].cos(),
        "log_sum_over_tokens": lambda y: y.logsumexp(1),
        "softmax_over_tokens": lambda y: y.softmax(1) + y.log_softmax(1),
    },
)

table(
    "data-dependent",
    {
        "argsort_of_tokens": lambda y: y.argsort(1).to(y.dtype),
        "running_sum_of_gates": lambda y: torch.sigmoid(y).cumsum(1) + y.logcumsumexp(1),
        "places_of_tokens": lambda y: y.sort(1)[1].to(y.dtype) + y.max(1)[1].to(y.dtype)[:, None],
    },
)

table("", {"softmax": lambda y: y.softmax(-1), "log_softmax": lambda y: y.log_softmax(-1)})
table("", {"cumprod": lambda y: y.cumprod(-1), "logcumsumexp": lambda y: y.logcumsumexp(-1)})
table("", {"cummax": lambda y: y.cummax(-1).values, "sort": lambda y: y.sort(-1).values})
table("", {"argsort": lambda y: y * y.argsort(-1).to(y.dtype)})
table("", {"fliplr": lambda y: y.transpose(0, 1).flatten(0, 1).fliplr()})
table(
    "",
    {
        "prod": lambda y: y.prod(-1, keepdim=True),
        "logsumexp": lambda y: y.logsumexp(-1, keepdim=True),
        "median": lambda y: y.median(-1, keepdim=True).values,
        "argmax": lambda y: y.argmax(-1, keepdim=True).to(y.dtype),
        "quantile": lambda y: torch.quantile(y, 0.5, -1, keepdim=True),
        "all": lambda y: y.bool().all(-1, keepdim=True).to(y.dtype),
    },
    out=1,
)
table(
    "exact",
    {
        "sum": lambda y: y.sum(-1, keepdim=True),
        "l2": lambda y: y.norm(dim=-1, keepdim=True),
        "l1": lambda y: torch.linalg.vector_norm(y, 1, -1, True),
        "count": lambda y: y.count_nonzero(-1).unsqueeze(-1).to(y.dtype),
        "any": lambda y: (y > 0.2).any(-1, keepdim=True).to(y.dtype),
    },
    out=1,
)
table(
    "norm-changed",
    {
        "mean": lambda y: y.mean(-1, keepdim=True),
        "variance": lambda y: y.var(-1, keepdim=True),
        "variance_and_mean": lambda y: sum(torch.var_mean(y, -1, keepdim=True)),
    },
    out=1,
)
table(
    "data-dependent",
    {
        "largest": lambda y: y.amax(-1, keepdim=True),
        "smallest": lambda y: y.min(-1, keepdim=True).values,
    },
    out=1,
)
table("", {"random": lambda y: y + 0 * torch.rand_like(y)}, why="random numbers")
table("", {"triangle": lambda y: y[0, :5, :6].tril()}, why="a triangle")
table("", {"diagonal": lambda y: y.diagonal(0, 1, 2)}, out=5, why="a diagonal")
table(
    "exact",
    {
        "gram": lambda y: torch.linalg.inv(y @ y.mT + torch.eye(5, dtype=y.dtype)) @ y,
        "factor": lambda y: torch.linalg.cholesky(y @ y.mT + torch.eye(5, dtype=y.dtype)) @ y,
        "matrix_power": lambda y: torch.linalg.matrix_power(y @ y.mH, 2) @ y,
    },
)
