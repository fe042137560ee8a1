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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from graphs.build.interpreter import Running
from graphs.depth.branches import blocks
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
    """

    names: tuple[str, ...]
    products: torch.Tensor

    def of(self, gone: Iterable[str]) -> float:
        """Expected loss without these blocks together."""
        index = [self.names.index(name) for name in gone]
        return float(self.products[index][:, index].sum()) / 2


def branch_losses(
    net: Network, batches: Sequence[Any], likelihood: Likelihood | None = None
) -> BranchLosses:
    """Expected losses of all residual branches, by a forward pass and one back for each draw.

    Args:
        net: the network; its own program is run.
        batches: inputs like those it was traced with, in any number.
        likelihood: of what gradients are taken; no loss.

    Raises:
        ValueError: batches of other sizes than the traced inputs.
        NoCurvatureError: an output without scores, or one that does not depend on the branches.
    """
    watch = BranchGradients(net)
    with torch.inference_mode(False), torch.enable_grad():
        predictions = of_scores(watch.model, list(batches), watch, likelihood or Likelihood())
    return BranchLosses(tuple(watch.names), watch.products() / max(predictions, 1.0))


class BranchGradients:
    """Forms s = Σ_places gᵀ b of every branch and example inside the backward pass.

    Args:
        net: the network.
    """

    def __init__(self, net: Network) -> None:
        found = blocks(net)
        self.names = [block.name for block in found]
        self.start = torch.zeros((), requires_grad=True)
        self.called = dict.fromkeys(self.names, CUT_OFF)
        self.sums: dict[str, torch.Tensor] = {}
        """Name of a block → s of all examples so far, (examples · draws,), float64."""
        self._added: dict[str, torch.Tensor] = {}
        then: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {}
        graph = {node.name: node for node in net.program.graph.nodes}
        for block in found:
            ends = [n.name for n in graph[block.sum].all_input_nodes if n.name != block.stream]
            then[ends[0]] = self._keeping(block.name)
            then[block.sum] = self._watching(block.name)
        tensors = {name: tensor.value.detach() for name, tensor in net.tensors.items()}
        self.model = Running(net, tensors, then)

    def after(self, call: Call, output: torch.Tensor) -> None:
        """For `LinearCalls`: weights themselves are not watched."""

    def products(self) -> torch.Tensor:
        """Σ s sᵀ, (n, n)."""
        most = max((len(value) for value in self.sums.values()), default=0)
        none = torch.zeros(most, dtype=torch.float64)
        rows = torch.stack([self.sums.get(name, none).cpu() for name in self.names])
        return rows @ rows.T

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
