"""Factored layers: the form in which low rank is smaller and faster, not only different.

    layer(x) = B(A(x))                 low rank
    layer(x) = S(x) + B(A(x))          sparse + low rank

A maps the inputs to r numbers, B maps those to the outputs. For a convolution A has its kernel,
stride and padding, and B is a convolution of single positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from pruners.plan import Plan
from pruners.solvers.base import Factors
from pruners.solvers.matrix import from_matrix

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Parts:
    """What a weight becomes.

    Args:
        factors: over the matrix view of the weight (`pruners.solvers.as_matrix`).
        sparse: S in the shape of the weight; None for low rank alone.
    """

    factors: Factors
    sparse: torch.Tensor | None = None


class SparseLowRank(nn.Module):
    """S(x) + B(A(x)).

    Args:
        sparse: the layer as it was, with S for a weight and its own bias.
        low_rank: A, then B.
    """

    def __init__(self, sparse: nn.Module, low_rank: nn.Module) -> None:
        super().__init__()
        self.sparse = sparse
        self.low_rank = low_rank

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The outputs of the layer, as those of the layer it replaces."""
        found: torch.Tensor = self.sparse(x) + self.low_rank(x)
        return found


def factorable(model: nn.Module, names: Iterable[str]) -> dict[str, str | None]:
    """Weight name → why it cannot be replaced by factors, or None where it can.

    Linear layers and convolutions without groups have a factored form, if they are modules of their
    own, inside the model, and nothing else reads their weight.

    Args:
        model: any module.
        names: of its parameters.
    """
    uses: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    modules = dict(model.named_modules())

    def refusal(name: str) -> str | None:
        path, _, leaf = name.rpartition(".")
        layer = modules.get(path)
        # A subclass may read its weight elsewhere (the output of `nn.MultiheadAttention` does).
        if layer is None or layer is model or leaf != "weight":
            return "it is not the weight of a layer inside the model"
        if type(layer) not in (nn.Linear, *CONVOLUTIONS):
            return f"a {type(layer).__name__} has no factored form"
        if getattr(layer, "groups", 1) > 1:
            return "it is a convolution in groups"
        if uses[id(layer.weight)] > 1:
            return "it is shared by several modules"
        if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks:
            return "its layer has hooks"
        return None

    return {name: refusal(name) for name in names}


def factored(model: nn.Module, parts: Mapping[str, Parts | Factors]) -> nn.Module:
    """Replace layers by their factored form, in place.

    A layer becomes `nn.Sequential(A, B)` under the same name: in the state dict `layer.weight` and
    `layer.bias` give way to `layer.0.weight` (r, in, kernel...), `layer.1.weight` (out, r, 1...)
    and `layer.1.bias`. Applied to one position it takes in·r + r·out multiplications instead of
    in·out. With a sparse part it becomes a `SparseLowRank`: `layer.sparse.weight`,
    `layer.sparse.bias`, `layer.low_rank.0.weight` and `layer.low_rank.1.weight`.

    Args:
        model: changed in place; nothing is changed when anything is refused.
        parts: weight name ("layer.weight") → what it becomes.

    Returns:
        The model.

    Raises:
        ValueError: a weight that has no such form (`factorable`), or parts of another shape.
    """
    for name, reason in factorable(model, parts).items():
        if reason is not None:
            raise ValueError(
                f'"{name}" cannot be replaced by factors: {reason}; keep its effective dense weight'
            )
    found = {}
    for name, given in parts.items():
        path = name.rpartition(".")[0]
        each = given if isinstance(given, Parts) else Parts(given)
        found[path] = _replacement(name, model.get_submodule(path), each)
    for path, layer in found.items():
        swap(model, path, layer)
    return model


def swap(model: nn.Module, path: str, layer: nn.Module) -> nn.Module:
    """Put a layer into the place of another; returns that one."""
    parent, _, leaf = path.rpartition(".")
    before = model.get_submodule(path)
    setattr(model.get_submodule(parent), leaf, layer)
    return before


def _replacement(name: str, layer: nn.Module, parts: Parts) -> nn.Module:
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    factors = parts.factors
    shape = (factors.left.shape[0], factors.right.shape[1])
    expected = (weight.shape[0], weight[0].numel())
    if shape != expected or factors.right.shape[0] != factors.rank:
        raise ValueError(
            f'"{name}" is a matrix of {expected}, its factors are {tuple(factors.left.shape)} and '
            f"{tuple(factors.right.shape)}"
        )
    if parts.sparse is None:
        return _thin(layer, factors, layer.bias).train(layer.training)
    if parts.sparse.shape != weight.shape:
        raise ValueError(
            f'"{name}" has the shape {tuple(weight.shape)}, its sparse part '
            f"{tuple(parts.sparse.shape)}"
        )
    low_rank = _thin(layer, factors, None)
    rest = _like(layer, weight.shape[1], weight.shape[0], parts.sparse, layer.bias)
    return SparseLowRank(rest, low_rank).train(layer.training)


def _thin(layer: nn.Module, factors: Factors, bias: nn.Parameter | None) -> nn.Sequential:
    """A and B for a layer, on its device and in its dtype."""
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    rank, (rows, columns), kernel = factors.rank, weight.shape[:2], weight.shape[2:]
    inner = _like(layer, columns, rank, from_matrix(factors.right, (rank, *weight.shape[1:])))
    value = factors.left.reshape(rows, rank, *(1 for _ in kernel))
    if isinstance(layer, nn.Linear):
        outer: nn.Module = nn.Linear(rank, rows, bias=False, device="meta")
    else:
        outer = type(layer)(rank, rows, 1, bias=False, device="meta")
    return nn.Sequential(inner, _filled(outer, layer, value, bias))


def _like(
    layer: nn.Module,
    columns: int,
    rows: int,
    value: torch.Tensor,
    bias: nn.Parameter | None = None,
) -> nn.Module:
    """A layer with the settings of another, of other widths, with this weight and bias."""
    # Meta modules draw no random numbers for weights that are replaced at once.
    if isinstance(layer, nn.Linear):
        made: nn.Module = nn.Linear(columns, rows, bias=False, device="meta")
    else:
        assert isinstance(layer, CONVOLUTIONS)
        made = type(layer)(
            columns,
            rows,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            bias=False,
            padding_mode=layer.padding_mode,
            device="meta",
        )
    return _filled(made, layer, value, bias)


def _filled(
    made: nn.Module, layer: nn.Module, value: torch.Tensor, bias: nn.Parameter | None
) -> nn.Module:
    weight = layer.weight
    assert isinstance(weight, nn.Parameter)
    # A copy: rows of a larger matrix would keep all of it in memory, and on disk.
    value = value.detach().to(weight).clone(memory_format=torch.contiguous_format)
    made.weight = nn.Parameter(value, requires_grad=weight.requires_grad)
    made.bias = bias
    return made


def shaped(model: nn.Module, plan: Plan) -> nn.Module:
    """A dense model with the layers of a plan, in place; their values do not matter."""
    parts = {}
    for name, rank in plan.rank.items():
        weight = model.get_parameter(name)
        rows, columns = weight.shape[0], weight[0].numel()
        factors = Factors(weight.new_zeros(rows, rank), weight.new_zeros(rank, columns))
        parts[name] = Parts(factors, weight.detach() if name in plan.density else None)
    return factored(model, parts)
