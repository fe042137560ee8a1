"""Unit evidence: what one backward pass says about every unit of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs.axes.dims import atoms
from graphs.calls.running import undisturbed
from pruners.norms import normalized_producers
from pruners.positions import sum_over_others, to_units

if TYPE_CHECKING:
    from graphs import Network

LossFunction = Callable[[nn.Module, Any], torch.Tensor]


def unit_evidence(
    net: Network, model: nn.Module, batches: Iterable[Any], loss_fn: LossFunction
) -> dict[str, torch.Tensor]:
    r"""First-order evidence of every unit, from the gradients of a few microbatches.

    With t_b(u) = Σ w·∂L_b/∂w over the entries of the slices that produce unit u, the columns are

        |Σ_b t_b(u)|,    Σ_b t_b(u)²,    Σ_b |t_b(u)|,

    the first-order change of the loss when the unit is removed (Molchanov et al. 2019,
    "Importance Estimation for Neural Network Pruning", eq. 8), its empirical-Fisher counterpart
    (Theis et al. 2018, "Faster gaze prediction", eq. 7), and the change without cancellation.

    The model runs in evaluation mode; its parameters, buffers, training flags, `requires_grad` and
    `.grad` are left as they were. Parameters that the caller froze are measured too.

    Args:
        net: the network; the names of its tensors are the model's state-dict names.
        model: the module to run.
        batches: the microbatches b, each handed to `loss_fn` as it is.
        loss_fn: (model, batch) → scalar loss L_b.

    Returns:
        Axis name → float32 (float64 for float64 models) tensor of shape (size, 3), for every axis,
        frozen ones included. An axis whose units nothing trainable produces has zeros.

    Raises:
        ValueError: no batches, a loss that is not a finite scalar, or a loss without gradient.
    """
    parameters = {
        name: parameter
        for name, parameter in model.named_parameters()
        if name in net.tensors and parameter.is_floating_point()
    }
    if not parameters:
        raise ValueError(
            "no parameter of the model has a name in the network; trace this same model first"
        )
    # A linear map in front of a batch norm is faded by the norm's own scale and shift.
    exempt = normalized_producers(net)
    total: dict[str, torch.Tensor] = {}
    count = 0
    with undisturbed(model), torch.enable_grad():
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        for count, batch in enumerate(batches, start=1):
            loss = _checked(loss_fn(model, batch), count)
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for axis, terms in _taylor(net, parameters, gradients, exempt).items():
                row = torch.stack([terms, terms.square(), terms.abs()], dim=1)  # (size, 3)
                total[axis] = total[axis] + row if axis in total else row
    if count == 0:
        raise ValueError("unit_evidence needs at least one batch (got none)")
    for evidence in total.values():
        evidence[:, 0].abs_()
    sample = next(iter(parameters.values()))
    return {
        name: total.get(name, torch.zeros(axis.size, 3, device=sample.device))
        for name, axis in net.axes.items()
    }


def microbatches(batches: Iterable[Any], size: int = 16) -> Iterator[Any]:
    """Cut batches along the first dimension of their tensors.

    Small ones tell units apart better: what cancels over a large batch does not over a small one.

    Args:
        batches: any nesting of tensors that agree in their first dimension.
        size: examples of a microbatch.
    """
    for batch in batches:
        leaves, structure = pytree.tree_flatten(batch)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.ndim]
        count = len(tensors[0]) if tensors else 0
        if not tensors or any(len(t) != count for t in tensors):
            yield batch
            continue
        for start in range(0, count, size):
            part = [
                leaf[start : start + size] if isinstance(leaf, torch.Tensor) and leaf.ndim else leaf
                for leaf in leaves
            ]
            yield pytree.tree_unflatten(part, structure)


def _checked(loss: torch.Tensor, batch: int) -> torch.Tensor:
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        shape = tuple(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise ValueError(f"loss_fn must return a scalar tensor (got {shape}, batch {batch})")
    if not loss.requires_grad:
        raise ValueError(
            f"the loss of batch {batch} has no gradient: loss_fn must not run under "
            "torch.no_grad() nor detach the model's output"
        )
    if not torch.isfinite(loss.detach()):
        raise ValueError(f"the loss of batch {batch} is not finite (got {loss.item()})")
    return loss.reshape(())


def _taylor(
    net: Network,
    parameters: Mapping[str, nn.Parameter],
    gradients: tuple[torch.Tensor | None, ...],
    exempt: frozenset[str],
) -> dict[str, torch.Tensor]:
    """Σ w·g of every unit over its producing slices, for one microbatch."""
    found: dict[str, torch.Tensor] = {}
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        if gradient is None or name in exempt:
            continue
        tensor = net.tensors[name]
        wide = torch.promote_types(parameter.dtype, torch.float32)
        product = parameter.detach().to(wide) * gradient.to(wide)
        for i in tensor.making:
            dim = tensor.dims[i]
            axes = atoms(dim)
            if not axes:
                continue
            along = sum_over_others(product, i)
            for axis in axes:
                units = to_units(along, dim, axis, net.axes)
                found[axis] = found[axis] + units if axis in found else units
    return found
