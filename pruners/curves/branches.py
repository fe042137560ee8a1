r"""Expected loss of residual branches that go whole.

Without a branch the stream moves by −b, what the branch adds, at all places of an example at once.
To second order the predictions then move by

    KL ≈ ½ E[(Σ_places gᵀ b)²] = ½ E[s²],

g the gradient of the predictions at the stream behind the sum. It is ½ tr(G E[b bᵀ]) without the
step that takes gradients and branches to be independent, and places to be uncorrelated. Several
branches together cost ½ E[(Σ_i s_i)²]: one matrix E[s sᵀ] says what any choice of them is expected
to cost, and no pruned network is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from graphs import trace
from graphs.build.interpreter import Running
from graphs.calls.running import as_inputs, undisturbed
from pruners.statistics import Likelihood
from pruners.statistics.calls import Call
from pruners.statistics.curvature import CUT_OFF, begun, of_scores

if TYPE_CHECKING:
    from graphs import Network


@dataclass(frozen=True)
class BranchLosses:
    """What residual branches are expected to cost when they go.

    Args:
        names: of blocks (`net.blocks()`).
        products: E[s sᵀ], summed over the examples and divided by predictions, (n, n), float64.
        within: name of a block → those that hold it, and go with it.
    """

    names: tuple[str, ...]
    products: torch.Tensor
    within: Mapping[str, frozenset[str]]

    def of(self, gone: Iterable[str]) -> float:
        """Expected loss without these blocks together."""
        named = set(gone)
        index = [self.names.index(name) for name in named if not self.within[name] & named]
        return float(self.products[index][:, index].sum()) / 2


def branch_losses(
    net: Network,
    model: nn.Module,
    batches: Sequence[Any],
    likelihood: Likelihood | None = None,
) -> BranchLosses:
    """Expected losses of all residual branches, by a forward pass and one back for each draw.

    The model is traced once for every shape of batches, so that values between its modules are
    known.

    Args:
        net: the network of this model.
        model: left as it was.
        batches: inputs of the model.
        likelihood: of what gradients are taken; no loss.

    Raises:
        NoCurvatureError: an output without scores, or one that does not depend on the branches.
    """
    found = {block.name: set(block.tensors) for block in net.blocks()}
    watch = BranchGradients([*found])
    with torch.inference_mode(False), torch.enable_grad(), undisturbed(model):
        traced = _Traced(model, watch, batches)
        predictions = of_scores(traced, list(batches), watch, likelihood or Likelihood())
    within = {
        name: frozenset(other for other, held in found.items() if inside < held)
        for name, inside in found.items()
    }
    return BranchLosses(watch.names, watch.products() / max(predictions, 1.0), within)


class BranchGradients:
    """Forms s = Σ_places gᵀ b of every branch and example inside the backward pass.

    Args:
        names: of blocks.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.start = torch.zeros((), requires_grad=True)
        self.called = dict.fromkeys(names, CUT_OFF)
        self.sums: dict[str, torch.Tensor] = {}
        """Name of a block → s of all examples so far, (examples · draws,), float64."""
        self._added: dict[str, torch.Tensor] = {}

    def after(self, call: Call, output: torch.Tensor) -> None:
        """For `LinearCalls`: weights themselves are not watched."""

    def products(self) -> torch.Tensor:
        """Σ s sᵀ, (n, n); 0 for blocks that no gradient reaches."""
        most = max((len(value) for value in self.sums.values()), default=0)
        none = torch.zeros(most, dtype=torch.float64)
        if not self.names:
            return none.new_zeros(0, 0)
        rows = torch.stack([self.sums.get(name, none).cpu() for name in self.names])
        return rows @ rows.T

    def at(self, net: Network) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
        """Name of a node of this network's program → what is done with its value."""
        graph = {node.name: node for node in net.program.graph.nodes}
        found: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}
        for block in net.blocks():
            if block.name in self.names:
                (end,) = (n for n in graph[block.sum].all_input_nodes if n.name != block.stream)
                found[end.name] = self._keeping(block.name)
                found[block.sum] = self._watching(block.name)
        return found

    def _keeping(self, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        def keep(value: torch.Tensor) -> torch.Tensor:
            self._added[name] = value.detach()
            return value

        return keep

    def _watching(self, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        def watch(value: torch.Tensor) -> torch.Tensor:
            added = self._added.pop(name)
            value = value if value.requires_grad else begun(self.start, value)

            def form(gradient: torch.Tensor) -> None:
                each = (gradient.double() * added.double()).flatten(1).sum(1)
                self.sums[name] = torch.cat([self.sums[name], each]) if name in self.sums else each

            value.register_hook(form)
            return value

        return watch


class _Traced(nn.Module):
    """A model as its program, traced for every shape of inputs.

    That is done before any of them runs: what watches calls would be recorded with them.
    """

    def __init__(self, model: nn.Module, watch: BranchGradients, batches: Sequence[Any]) -> None:
        super().__init__()
        self._programs: dict[Any, Running] = {}
        for batch in batches:
            args, kwargs = pytree.tree_map_only(torch.Tensor, torch.clone, as_inputs(batch))
            if _kind(args, kwargs) in self._programs:
                continue
            net = trace(model, kwargs or args)
            tensors = {name: tensor.value.detach() for name, tensor in net.tensors.items()}
            self._programs[_kind(args, kwargs)] = Running(net, tensors, watch.at(net))

    def forward(self, *args: Any, **kwargs: Any) -> list[torch.Tensor]:
        return self._programs[_kind(args, kwargs)](*args, **kwargs)


def _kind(args: Any, kwargs: Any) -> tuple[Any, ...]:
    """What inputs of one program have in common."""
    leaves = pytree.tree_leaves((args, kwargs))
    return tuple((v.shape, v.dtype) if isinstance(v, torch.Tensor) else v for v in leaves)
