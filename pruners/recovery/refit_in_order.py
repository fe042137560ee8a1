"""Refit in order: every layer of the small network answers for the layers before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from graphs.axes.dims import atoms, kept_positions
from graphs.calls.running import run, undisturbed
from pruners.recovery.refit import UNSEEN, Refit, intercept_of
from pruners.recovery.regression import DAMPING, LostFunctionError, Regression, fit
from pruners.recovery.side_by_side import Rerun, Stepper
from pruners.solvers.matrix import as_matrix, from_matrix
from pruners.statistics.calls import Call, LinearCalls

if TYPE_CHECKING:
    from graphs import Network, Tensor

SHARED = "the forward calls it several times"
ROUTED = "which of its slices an example meets may differ between the networks"
COMPLEX = "its numbers are complex"
IN_COLUMNS = "it is a transposed convolution with groups"

Form: TypeAlias = Callable[[str, torch.Tensor, Regression], "torch.Tensor | None"]
"""(Weight name, best weight (groups, out, in), sums) → the weight in the form it must have, of the
same shape; None where the best one may stay."""


def refit_in_order(
    net: Network,
    model: nn.Module,
    small: Network,
    pruned: nn.Module,
    kept: Mapping[str, torch.Tensor],
    batches: Sequence[Any],
    *,
    damping: float = DAMPING,
    form: Form | None = None,
    samples: int | None = None,
    dense_batches: Sequence[Any] | None = None,
    again: bool = False,
) -> Refit:
    r"""Weights with which a pruned network reproduces the dense one, layer by layer.

        min over W', b of Σ ‖y − W' x' − b‖²

    where y is the output of the dense layer in the dense network and x' the input of the layer in
    the pruned network, whose earlier layers have been refitted already, so that their errors do not
    add up (He et al. 2017, "Channel Pruning", eq. 5; Li et al. 2025, "GPTAQ"). All linear maps and
    convolutions behind the first cut are refitted, those that lose no inputs too. It takes one
    forward pass a batch of each network; the activations of all batches live at the same time.

    Args:
        net, model: the dense network and its module; left as they were.
        small: the network after `remove` (and `drop`).
        pruned: its module; left as it was.
        kept: axis name → kept unit indices.
        batches: example inputs (a tuple of arguments, a mapping of keywords, or one tensor).
        damping: see `regression.fit`.
        form: what becomes of every best weight before the next layer sees its outputs: a mask, or
            factors.
        samples: places of every batch that a layer is fitted to, at most; None for all.
        dense_batches: what goes into the dense network where other batches go into the pruned one:
            a part of a network whose earlier parts are pruned. None for the same.
        again: run every batch from the start for each layer, so that activations of one batch live
            at a time; the result is the same.

    Returns:
        Values of the small network's shapes, for `small.replace`.

    Raises:
        LostFunctionError: the pruned network computes what is not finite.
        ValueError: no batches.
    """
    if not batches:
        raise ValueError("a refit needs at least one calibration batch (got none)")
    result = Refit()
    own = dict(pruned.named_parameters()) | dict(pruned.named_buffers())
    # Layers that moved up when others left have other names in the dense network.
    dense = dict(model.named_parameters())
    before = {name: small.source.moved.get(name, name) for name in small.tensors}
    theirs = {name: dense[old] for name, old in before.items() if old in dense}
    sides = {
        name: side
        for name, tensor in small.tensors.items()
        if tensor.role == "weight" and (side := _input_dim(tensor)) is not None and name in theirs
    }
    with undisturbed(model), undisturbed(pruned), torch.no_grad(), _restored(own):
        called = _called(pruned, {id(own[name]): name for name in sides}, batches[0])
        for name in sides:
            why = COMPLEX if own[name].is_complex() else _no_order(called.get(name, []))
            if why is not None:
                result.not_refitted[name] = why
        order = [name for name in called if name not in result.not_refitted]
        rows = {
            name: kept_positions(net.tensors[before[name]].dims[1 - sides[name]], kept, net.axes)
            for name in order
        }
        pairs: list[_Pair] = []
        way = Rerun if again else Stepper
        try:
            for both in zip(dense_batches or batches, batches, strict=True):
                pairs.append(_Pair(model, pruned, theirs, own, rows, both, samples, way))
            for name in order:
                into = intercept_of(small, name, small.tensors[name])
                sums = _together(pairs, name, biased=into is not None)
                if sums is None:
                    result.not_refitted[name] = "the dense network calls it otherwise"
                else:
                    sums = sums.double()
                    _solve(small, own, name, sides[name], into, sums, damping, result, form)
                for pair in pairs:
                    pair.leave(name)
        finally:
            for pair in pairs:
                pair.close()
    return result


def _solve(
    small: Network,
    own: Mapping[str, torch.Tensor],
    name: str,
    side: int,
    into: str | None,
    sums: Regression,
    damping: float,
    result: Refit,
    form: Form | None,
) -> None:
    """Refit one weight in place, and write it down if that changed anything."""
    if not sums.xx.isfinite().all():
        raise LostFunctionError(
            f'what goes into "{name}" of the pruned network is NaN or infinite: it divides by what '
            "has become 0, or the like; ask for less, or keep what comes before (min_units)"
        )
    weight = own[name]
    groups = len(sums.x_mean)
    matrix = as_matrix(weight.detach(), 1 - side).to(sums.xx).unflatten(0, (groups, -1))
    if into is None:
        sums = sums.about_zero()
    found = fit(sums, matrix, damping)
    formed = None if form is None else form(name, found.weight, sums)
    if formed is None and found.gain == 0.0 and into is None:
        return
    best = found.weight if formed is None else formed.to(found.weight)
    energy = max(sums.yy, torch.finfo(torch.float64).tiny)
    result.errors[name] = sums.lost(matrix) / energy, sums.lost(best) / energy
    values = {name: from_matrix(best.flatten(0, 1), weight.shape, 1 - side)}
    if into is not None:
        shift = sums.intercept(best).flatten()
        # Targets hold the dense bias already; a norm subtracts its mean, and the dense one is due.
        old = small.tensors[into].value.to(shift)
        values[into] = old - shift if small.tensors[into].role == "running_mean" else shift
    for key, value in values.items():
        own[key].copy_(value)
        result.values[key] = own[key].detach().clone()
    if found.damping > damping:
        result.damped[name] = found.damping


def _called(model: nn.Module, names: Mapping[int, str], batch: Any) -> dict[str, list[Call]]:
    """Weights in the order in which a model first calls them, and these calls without inputs."""
    seen: dict[str, list[Call]] = {}

    def watch(call: Call) -> None:
        if (name := names.get(id(call.weight))) is not None:
            seen.setdefault(name, []).append(replace(call, input=call.weight))

    with LinearCalls(watch):
        run(model, batch)
    return seen


def _no_order(calls: Sequence[Call]) -> str | None:
    """Why a weight with these calls cannot be fitted where it stands; None if it can."""
    if not calls:
        return UNSEEN
    if calls[0].slices is not None:
        return ROUTED
    if len(calls) > 1:  # its first call would come before its last inputs are known
        return SHARED
    return IN_COLUMNS if calls[0].groups != calls[0].blocks else None


def _input_dim(tensor: Tensor) -> int | None:
    """The dimension that inputs run along: kernels of single channels have one without units."""
    side = tensor.input_dim
    alone = tensor.value.ndim > 2 and not any(atoms(dim) for dim in tensor.dims[1:])
    return 1 if side is None and alone and tensor.produces[0] else side


class _Pair:
    """A batch on its way through the dense and through the pruned network."""

    def __init__(
        self,
        model: nn.Module,
        pruned: nn.Module,
        theirs: Mapping[str, torch.Tensor],
        own: Mapping[str, torch.Tensor],
        rows: Mapping[str, torch.Tensor | None],
        both: tuple[Any, Any],
        samples: int | None,
        way: type[Stepper] | type[Rerun],
    ) -> None:
        self.rows, self.samples = rows, samples
        self.dense = way(model, both[0], {id(theirs[n]): n for n in rows}, after=True)
        self.small = way(pruned, both[1], {id(own[n]): n for n in rows})
        self.small.advance()

    def regression(self, name: str, biased: bool) -> Regression | None:
        """Inputs in the pruned network, before the call, against outputs in the dense one.

        Args:
            name: of the weight.
            biased: whether outputs hold their bias, or it is taken from them.

        Returns:
            None where the two networks do not make the same call.
        """
        while self.dense.name not in (name, None) or not self.dense.begun:
            self.dense.advance()
        few, all_ = self.small.call, self.dense.call
        if few is None or all_ is None or self.dense.output is None:
            return None
        if _places(few) != _places(all_):
            return None
        target, index = self.dense.output, self.rows[name]
        if all_.bias is not None and not biased:
            channels = target.movedim(all_.channel_dim, -1) - all_.bias
            target = channels.movedim(-1, all_.channel_dim)
        if index is not None:
            target = target.index_select(few.channel_dim, index.to(target.device))
        found = Regression.of_call(few, target, self.samples)
        self.dense.let_go()
        self.small.let_go()
        return found

    def leave(self, name: str) -> None:
        """Make the call, and go on to the next one."""
        if self.small.name == name:
            self.small.advance()

    def close(self) -> None:
        """Give both passes up."""
        self.dense.close()
        self.small.close()


def _together(pairs: list[_Pair], name: str, biased: bool) -> Regression | None:
    """Sums over all batches that come by; None if one of them does so in one network only."""
    total: Regression | None = None
    for pair in pairs:
        if pair.small.name != name:
            continue
        sums = pair.regression(name, biased)
        if sums is None:
            return None
        total = sums if total is None else total.merge_(sums)
    return total


def _places(call: Call) -> list[int]:
    """Shape of an input without its channels."""
    shape = list(call.input.shape)
    del shape[call.channel_dim]
    return shape


@contextmanager
def _restored(tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """On leaving, these tensors hold what they held."""
    before = {name: value.detach().clone() for name, value in tensors.items()}
    try:
        yield
    finally:
        for name, value in before.items():
            tensors[name].copy_(value)
