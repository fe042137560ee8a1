"""From a `Network` back to a module: of its class where the forward fits, else the program."""

from __future__ import annotations

import copy
from itertools import chain, combinations, islice
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs.export import quiet_evaluation
from graphs.network import Network
from graphs.program import changed_extents, changed_numbers, exported_module, rewritten

# Attributes of torch's own layers that restate the shape of their tensors.
_SHAPE_FIELDS: dict[type[nn.Module], dict[str, Any]] = {
    nn.Linear: {
        "in_features": lambda m: m.weight.shape[1],
        "out_features": lambda m: m.weight.shape[0],
    },
    nn.Embedding: {
        "num_embeddings": lambda m: m.weight.shape[0],
        "embedding_dim": lambda m: m.weight.shape[1],
    },
    nn.modules.conv._ConvTransposeNd: {
        "in_channels": lambda m: m.weight.shape[0],
        "out_channels": lambda m: m.weight.shape[1] * m.groups,
    },
    nn.modules.conv._ConvNd: {
        "in_channels": lambda m: m.weight.shape[1] * m.groups,
        "out_channels": lambda m: m.weight.shape[0],
    },
    nn.modules.batchnorm._NormBase: {
        "num_features": lambda m: next(
            (t.shape[0] for t in (m.weight, m.running_mean) if t is not None), m.num_features
        )
    },
    nn.GroupNorm: {
        "num_channels": lambda m: m.num_channels if m.weight is None else m.weight.shape[0]
    },
    nn.LayerNorm: {
        "normalized_shape": lambda m: (
            m.normalized_shape if m.weight is None else tuple(m.weight.shape)
        )
    },
    nn.RMSNorm: {
        "normalized_shape": lambda m: (
            m.normalized_shape if m.weight is None else tuple(m.weight.shape)
        )
    },
}


MOST_TRIES = 64


def to_model(net: Network) -> nn.Module:
    """See `graphs.Network.to_model`."""
    if _same_sizes(net):
        return _own_class(net)
    graph = graph_model(net)
    expected = _outputs(graph, net)
    sizes = _renamed_sizes(net)
    fields = sorted(_restating_fields(net.source.model, sizes))
    # A field may restate a size or equal it by chance (four heads of four features): leave out
    # none, then one, then two, until the forward agrees with the program.
    subsets = chain.from_iterable(combinations(fields, k) for k in range(len(fields) + 1))
    for left_out in islice(subsets, MOST_TRIES):
        own = _own_class(net)
        _repair(own, sizes, frozenset(left_out))
        _repair_numbers(own, net)
        if _agree(_outputs(own, net), expected):
            return own
    return graph


def graph_model(net: Network, *, widen: bool = False) -> nn.Module:
    """The traced program over this network's tensors, with its shape constants rewritten.

    Args:
        net: the network.
        widen: turn casts to float32 inside the forward (norms, rotary angles) into casts to
            float64, so that laws can be checked beyond the precision the forward asks for.
    """
    graph = rewritten(net.program, net.source.axes, net.axes)
    if widen:
        for node in graph.nodes:
            node.args = tuple(torch.float64 if a is torch.float32 else a for a in node.args)
    tensors = {name: t.value.detach().clone() for name, t in net.tensors.items()}
    module = exported_module(
        net.program,
        graph,
        tensors,
        net.source.parameters,
        net.source.buffers,
        net.source.aliases,
    )
    return module.train(net.source.model.training)


def _same_sizes(net: Network) -> bool:
    return all(net.source.axes[name].size == a.size for name, a in net.axes.items())


def _own_class(net: Network) -> nn.Module:
    """A copy of the traced module with this network's tensors in it and its attributes repaired."""
    source = net.source.model
    memo: dict[int, Any] = {id(t): t for t in (*source.parameters(), *source.buffers())}
    model = copy.deepcopy(source, memo)
    made: dict[str, torch.Tensor] = {}
    for alias, name in net.source.aliases.items():
        if name not in made:
            value = net.tensors[name].value.detach().clone()
            needs_grad = net.source.parameters.get(name)
            made[name] = (
                value if needs_grad is None else nn.Parameter(value, requires_grad=needs_grad)
            )
        path, _, leaf = alias.rpartition(".")
        owner = model.get_submodule(path)
        table = owner._parameters if name in net.source.parameters else owner._buffers
        table[leaf] = made[name]
    return model


Sizes = dict[str, dict[int, int]]


def _renamed_sizes(net: Network) -> Sizes:
    """Module path → {old size: new size}, for the sizes that changed in calls it makes."""
    found: dict[str, dict[int, set[int]]] = {}
    for path, old, new in changed_extents(net.program, net.source.axes, net.axes):
        found.setdefault(path, {}).setdefault(old, set()).add(new)
    return {
        path: {old: min(new) for old, new in sizes.items() if len(new) == 1}
        for path, sizes in found.items()
    }


def _matching(module: nn.Module, sizes: dict[int, int]) -> list[str]:
    return [
        field
        for field, value in vars(module).items()
        if isinstance(value, int) and not isinstance(value, bool) and value in sizes
    ]


def _restating_fields(model: nn.Module, sizes: Sizes) -> set[str]:
    """Names of integer attributes that equal a size that changed."""
    return {
        field
        for path, module in model.named_modules()
        for field in _matching(module, sizes.get(path, {}))
    }


def _repair(model: nn.Module, sizes: Sizes, left_out: frozenset[str]) -> None:
    """Bring integer attributes that restate shapes in line with the new shapes."""
    for path, module in model.named_modules():
        changed = sizes.get(path, {})
        for field in _matching(module, changed):
            if field not in left_out:
                setattr(module, field, changed[getattr(module, field)])
        for kind, fields in _SHAPE_FIELDS.items():
            if isinstance(module, kind):
                for field, read in fields.items():
                    setattr(module, field, read(module))
                break


def _repair_numbers(model: nn.Module, net: Network) -> None:
    """Bring the ε of root-mean-square norms in line with their number of units."""
    for path, old, new in changed_numbers(net.program, net.source.axes, net.axes):
        module = model.get_submodule(path)
        for field, value in vars(module).items():
            if isinstance(value, float) and value == old:
                setattr(module, field, new)


def _outputs(model: nn.Module, net: Network) -> list[torch.Tensor] | None:
    """The tensors a model returns for the traced inputs, or None when its forward fails."""
    args, kwargs = net.source.example
    with quiet_evaluation(model), torch.no_grad():
        try:
            result = model(*args, **kwargs)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
            return None
    leaves = pytree.tree_leaves(_plain(result))
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _agree(left: list[torch.Tensor] | None, right: list[torch.Tensor] | None) -> bool:
    """Whether two forwards gave the same, up to rounding."""
    if left is None or right is None or len(left) != len(right):
        return False
    return all(
        a.shape == b.shape
        and torch.allclose(a, b, rtol=1e-3, atol=1e-4 * _scale(b), equal_nan=True)
        for a, b in zip(left, right, strict=True)
    )


def _plain(result: Any) -> Any:
    return dict(result) if hasattr(result, "items") else result


def _scale(value: torch.Tensor) -> float:
    return float(value.abs().max().clamp_min(1.0)) if value.is_floating_point() else 1.0
