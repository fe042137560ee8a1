"""Factored linear maps: the form in which low rank is smaller and faster, not only different."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from pruners.solvers.base import Factors


def factored(model: nn.Module, factors: Mapping[str, Factors]) -> nn.Module:
    """Replace linear modules by two thin ones, in place.

    `nn.Linear(in, out)` becomes `nn.Sequential(Linear(in, r, bias=False), Linear(r, out))` under
    the same name. In the state dict, `layer.weight` and `layer.bias` give way to `layer.0.weight`
    (r, in), `layer.1.weight` (out, r) and `layer.1.bias`. It takes in · r + r · out multiplications
    for each input instead of in · out.

    Args:
        model: changed in place; nothing is changed when anything is refused.
        factors: name of the weight ("layer.weight") → left (out, r) and right (r, in). A weight
            that is sparse + low rank has no such form: its sparse part would be lost.

    Returns:
        The model.

    Raises:
        ValueError: a name that is no weight of an `nn.Linear`, one that other modules share, or
            factors of another shape.
    """
    uses: dict[int, int] = {}
    for _, parameter in model.named_parameters(remove_duplicate=False):
        uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    modules = dict(model.named_modules())
    found = {}
    for name, parts in factors.items():
        path, _, leaf = name.rpartition(".")
        layer = modules.get(path)
        # A subclass may read its weight elsewhere (the output of `nn.MultiheadAttention` does).
        if layer is None or type(layer) is not nn.Linear or leaf != "weight" or layer is model:
            raise ValueError(
                f'"{name}" is not the weight of an nn.Linear inside the model; only those take '
                "factors, keep the effective dense weight for others"
            )
        if uses[id(layer.weight)] > 1:
            raise ValueError(f'"{name}" is shared by several modules; untie it before factoring')
        shape = (parts.left.shape[0], parts.right.shape[1])
        if shape != tuple(layer.weight.shape) or parts.right.shape[0] != parts.rank:
            raise ValueError(
                f'"{name}" is {tuple(layer.weight.shape)}, its factors are '
                f"{tuple(parts.left.shape)} and {tuple(parts.right.shape)}"
            )
        found[path] = _thin(layer, parts)
    for path, pair in found.items():
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, pair)
    return model


def _thin(layer: nn.Linear, parts: Factors) -> nn.Sequential:
    """Two linear modules with the factors as weights, on the device and in the dtype of one."""
    rows, columns = layer.weight.shape
    # Meta modules draw no random numbers for weights that are replaced at once.
    inner = nn.Linear(columns, parts.rank, bias=False, device="meta")
    outer = nn.Linear(parts.rank, rows, bias=False, device="meta")
    for module, value in ((inner, parts.right), (outer, parts.left)):
        value = value.detach().to(layer.weight).contiguous()
        module.weight = nn.Parameter(value, requires_grad=layer.weight.requires_grad)
    outer.bias = layer.bias
    return nn.Sequential(inner, outer).train(layer.training)
