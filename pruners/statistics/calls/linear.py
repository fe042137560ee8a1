"""Watching the linear maps a model computes, whatever module makes the call.

Calls are recognised by function, not by module class, so a model that uses `torch.nn.functional`
itself and an exported graph are watched like any other:

    linear, conv1d … conv3d, conv_transpose1d … conv_transpose3d     the second argument
    addmm, matmul, mm, mv, @, bmm, grouped_mm                        the factor that is a parameter
    multi_head_attention_forward                                     the linear maps inside it
    lstm, gru, rnn_tanh, rnn_relu, and their cells                   the linear maps inside them

A view of a whole parameter (`weight.T`, a kernel of one tap as a matrix) counts as the parameter.
So does a slice of a stack of matrices, as mixtures of experts hold them, whether one slice is used
alone, all at once, or the one that every token is routed to (`pruners.statistics.calls.stacks`).
Not seen: other parts of a parameter (packed projections of attention over another sequence), einsum
and bilinear maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pruners.solvers.matrix import Rows
from pruners.statistics.calls.recurrent import is_recurrent, unrolled
from pruners.statistics.calls.stacks import note_gathered, part_of, slices_of


@dataclass(frozen=True)
class Call:
    """One call of a linear map or convolution.

    Args:
        input: what the weight is applied to.
        weight: the parameter, in the shape in which the model holds it.
        input_dim: dimension of the weight that inputs run along; outputs have the other of 0 and 1,
            in a stack of matrices that of 1 and 2.
        channel_dim: dimension of the input, and of the output, that carries channels; negative.
        taps: sizes of the kernel; none for a linear map.
        stride, padding, dilation, groups, output_padding: of a convolution, as they were passed;
            the slices of a stack are groups too.
        bias: that is added to the output.
        slices: of a stack, the slice that meets each place of the input, (places,), int64.
    """

    input: torch.Tensor
    weight: torch.Tensor
    input_dim: int = 1
    channel_dim: int = -1
    taps: tuple[int, ...] = ()
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    output_padding: Any = 0
    bias: torch.Tensor | None = None
    slices: torch.Tensor | None = None

    @property
    def transposed(self) -> bool:
        """Whether it is a transposed convolution."""
        return bool(self.taps) and self.input_dim == 0

    @property
    def rows(self) -> Rows:
        """Dimensions of the weight that are rows of its matrix (`pruners.solvers.as_matrix`)."""
        return 1 - self.input_dim if self.slices is None else (0, 3 - self.input_dim)

    @property
    def blocks(self) -> int:
        """Blocks of rows of the matrix that see inputs of their own."""
        return 1 if self.transposed else self.groups


CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
TRANSPOSED = (*CONVOLUTION[:5], "output_padding", "groups", "dilation")
PRODUCTS = {
    "matmul": ("input", "other"),
    "__matmul__": ("input", "other"),
    "__rmatmul__": ("other", "input"),
    "mm": ("input", "mat2"),
    "mv": ("input", "vec"),
    "addmm": ("bias", "mat1", "mat2"),
}
"""Function → its arguments, in order; the last two are the factors."""
STACKED = {
    "bmm": ("input", "mat2"),
    "grouped_mm": ("mat_a", "mat_b", "offs"),
    "_grouped_mm": ("input", "mat2", "offs"),
    "grouped_mm_fallback": ("input", "weight", "offs"),
}
"""Function of stacks of matrices → its arguments, in order; the first two are the factors."""


def function_name(function: Any) -> str:
    """`conv2d` for `torch.nn.functional.conv2d` and for `torch.ops.aten.conv2d.default` alike."""
    return getattr(function, "__name__", "").partition(".")[0]


def call_of(name: str, args: tuple, kwargs: Mapping[str, Any]) -> Call | None:
    """What a function does with a weight; None if it is no linear map whose rows are known.

    Args:
        name: of the function, as `function_name` gives it.
        args, kwargs: its arguments.
    """
    if name in PRODUCTS:
        return _product(PRODUCTS[name], args, kwargs)
    if name in STACKED:
        return _stacked(name, args, kwargs)
    transposed = name.startswith("conv_transpose")
    if name not in ("linear", "conv1d", "conv2d", "conv3d") and not transposed:
        return None
    names = TRANSPOSED if transposed else CONVOLUTION
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    weight = given.pop("weight")
    taps = tuple(weight.shape[2:])
    whole, turned = parameter_of(weight)
    if name == "linear" and whole is weight and (part := part_of(weight)) is not None:
        stack, index, turned = part
        return _of_slice(Call(given["input"], stack, 1 + int(not turned)), index)
    return Call(
        weight=whole,
        input_dim=int(transposed == turned),
        channel_dim=-1 - len(taps),
        taps=taps,
        **given,
    )


def _product(names: tuple[str, ...], args: tuple, kwargs: Mapping[str, Any]) -> Call | None:
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    one, other, bias = given.get(names[-2]), given.get(names[-1]), given.get("bias")
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return None
    scaled = any(given.get(scale, 1) != 1 for scale in ("alpha", "beta"))
    if scaled or (bias is not None and bias.ndim > 1):  # a sum with something that is no parameter
        return None
    (left, left_turned), (right, right_turned) = parameter_of(one), parameter_of(other)
    weights = [isinstance(factor, nn.Parameter) for factor in (left, right)]
    if weights == [False, True] and other.ndim == 2:
        return Call(one, right, int(right_turned), bias=bias)
    if weights == [True, False] and one.ndim == 2:
        return Call(other, left, int(not left_turned), -1 if other.ndim == 1 else -2)
    if max(one.ndim, other.ndim) == 2 or other.ndim == 1:
        return _of_slices(one, other, bias)
    if one.ndim == 2 and other.ndim == 3:
        one = one.expand(len(other), -1, -1)  # the same places for every slice
    return _stacked("bmm", (one, other), {})


def _of_slices(one: torch.Tensor, other: torch.Tensor, bias: torch.Tensor | None) -> Call | None:
    """A product with one slice of a stack of matrices."""
    parts = part_of(one), part_of(other)
    if parts[1] is not None and parts[0] is None:
        stack, index, turned = parts[1]
        return _of_slice(Call(one, stack, 1 + int(turned), bias=bias), index)
    if parts[0] is not None and parts[1] is None:
        stack, index, turned = parts[0]
        channel_dim = -1 if other.ndim == 1 else -2
        return _of_slice(Call(other, stack, 1 + int(not turned), channel_dim), index)
    return None


def _of_slice(call: Call, index: int) -> Call:
    places = call.input.numel() // call.input.shape[call.channel_dim]
    slices = torch.full((places,), index, device=call.input.device)
    return replace(call, slices=slices, groups=len(call.weight))


def _stacked(name: str, args: tuple, kwargs: Mapping[str, Any]) -> Call | None:
    """A product with the slices of a stack: each with its own rows, or the ones looked up."""
    given = dict(zip(STACKED[name], args, strict=False)) | dict(kwargs)
    one, other = (given.get(key) for key in STACKED[name][:2])
    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return None
    for x, weight, channel_dim in ((one, other, -1), (other, one, -2)):
        found = slices_of(weight, x, channel_dim, given.get("offs"))
        if found is not None:
            stack, turned, slices = found
            # (slices, in, out) as a right factor, (slices, out, in) as a left one.
            input_dim = 1 + int(turned == (channel_dim == -1))
            return Call(x, stack, input_dim, channel_dim, groups=len(stack), slices=slices)
    return None


def parameter_of(weight: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """The parameter that a tensor is a view of all of, and whether it is turned: (in, out).

    Dimensions of one tap may be missing or added. Other tensors are given back.
    """
    base = weight._base
    if isinstance(weight, nn.Parameter) or not isinstance(base, nn.Parameter):
        return weight, False
    if weight.numel() != base.numel() or min(weight.ndim, base.ndim) < 2:
        return weight, False
    shape, strides = _layout(base)
    found, steps = _layout(weight)
    if (found, steps) == (shape, strides):
        return base, False
    if len(found) == 2 and (found[::-1], steps[::-1]) == (shape, strides):
        return base, True
    return weight, False


def _layout(value: torch.Tensor) -> tuple[list[int], list[int]]:
    """Shape and strides without taps of size 1, whatever the strides of single entries are."""
    sizes = list(value.shape)
    while len(sizes) > 2 and sizes[-1] == 1:
        sizes.pop()
    return sizes, [
        0 if size == 1 else step for size, step in zip(sizes, value.stride(), strict=False)
    ]


class Watched:
    """Weights of a model by name, to be recognised in calls.

    Args:
        model: whose parameters they are.
        weights: names.

    Raises:
        ValueError: a name that is not a parameter.
    """

    def __init__(self, model: nn.Module, weights: Iterable[str]) -> None:
        parameters = dict(model.named_parameters())
        self.parameters: dict[str, nn.Parameter] = {}
        self.both: set[str] = set()
        """Names of weights whose inputs run along either dimension: they have no statistics."""
        self._sides: dict[str, Rows] = {}
        for name in weights:
            if name not in parameters:
                raise ValueError(f'the model has no parameter "{name}" to collect statistics for')
            self.parameters[name] = parameters[name]
        self._names = {id(value): name for name, value in self.parameters.items()}

    def name(self, call: Call) -> str | None:
        """Of the weight that a call reads; None if it is not watched, or turned since before."""
        name = self._names.get(id(call.weight))
        if name is None or self._sides.setdefault(name, call.rows) == call.rows:
            return name
        self.both.add(name)
        return None

    def rows(self, name: str) -> Rows:
        """Dimensions of a weight that outputs run along, by its calls; 0 if there were none."""
        return self._sides.get(name, 0)


class LinearCalls(TorchFunctionMode):
    """Inside this context, `watch` sees every linear map and convolution before it is computed.

    `after`, if given, sees it again with its output, and may give another one in its place.
    """

    def __init__(
        self,
        watch: Callable[[Call], None] | None = None,
        after: Callable[[Call, torch.Tensor], torch.Tensor | None] | None = None,
    ) -> None:
        super().__init__()
        self._watch = watch
        self._after = after

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Report the call, then make it."""
        named = kwargs or {}
        name = function_name(function)
        if name == "multi_head_attention_forward":
            with self:
                return _opened(function)(*args, **named)
        if is_recurrent(name):
            with self:
                made = unrolled(name, args, named)
            if made is not None:
                return made
        call = call_of(name, args, named)
        if call is None:
            return note_gathered(name, args, named, function(*args, **named))
        if self._watch is not None:
            self._watch(call)
        output = function(*args, **named)
        if self._after is not None:
            other = self._after(call, output)
            return output if other is None else other
        return output


def _opened(function: FunctionType) -> FunctionType:
    """A function of torch that does not hand itself to the mode again, but what it calls."""
    scope = {**function.__globals__, "has_torch_function": lambda _: False}
    copy = FunctionType(
        function.__code__, scope, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
