"""Trials: a pruning carried out and refitted, and judged on examples that it did not see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from graphs.build.rebuild import rebuild
from graphs.calls.running import run, undisturbed
from pruners.recovery.compensation import compensate_bias, input_means
from pruners.recovery.norm_scales import compensate_norms
from pruners.recovery.refit_in_order import refit_in_order
from pruners.recovery.regression import LostFunctionError
from pruners.statistics import microbatches
from pruners.statistics.likelihood import scores_of

if TYPE_CHECKING:
    from graphs import Network

SHARE, PIECES = 0.25, 8
"""Share of the calibration that judges, and pieces into which too few batches are cut."""


FEWEST = 64
"""Predictions left out that can tell one way from another: with fewer nothing is tried."""

SAMPLES = 4096
"""Places of a batch that layers are fitted to on trial: twice as fast, and as good a judge."""


def left_out(batches: Sequence[Any], share: float = SHARE) -> tuple[list[Any], list[Any]]:
    """Batches to measure on, and others to judge by.

    Every fourth is left out; fewer than four are cut into pieces first, and of fewer pieces than
    four the last one is. A single one that cannot be cut is measured on, and nothing judges: what
    was chosen by an example says nothing about others.

    Args:
        batches: inputs of the model.
        share: of them that judges, to a whole number of batches between: a quarter is every fourth.
    """
    pieces, every = list(batches), max(2, round(1 / share))
    if len(pieces) < every:
        examples = sum(1 for _ in microbatches(pieces, 1))
        pieces = list(microbatches(pieces, max(1, examples // max(PIECES, every))))
    step = min(every, len(pieces))
    judging = pieces[step - 1 :: step]
    measuring = [piece for i, piece in enumerate(pieces) if i % step != step - 1]
    return (measuring, judging) if measuring else (pieces, [])


def predictions(model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What a model says of a batch, at least float32, and the weight of every prediction.

    Args:
        model: as it is; its graph is kept where gradients are on.
        batch: inputs; padding weighs nothing (`attention_mask`).

    Returns:
        Logarithms of probabilities, (..., classes), or single scores, (..., 1); and 0 or 1, (...).
    """
    scores, counted = scores_of(run(model, batch), batch)
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return wide if wide.shape[-1] == 1 else wide.log_softmax(-1), counted.to(wide)


def divergence(expected: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """KL(expected ‖ found) of every prediction, (...), in nats; of what `predictions` gives.

    Raises:
        ValueError: they are of different shapes.
    """
    if expected.shape != found.shape:
        raise ValueError(
            f"the predictions of the network have shape {tuple(found.shape)}, those of the dense "
            f"one {tuple(expected.shape)}: a network is compared with one of the same task"
        )
    if expected.shape[-1] == 1:
        return (expected - found).square().sum(-1) / 2
    return (expected.exp() * (expected - found)).sum(-1)


class Judge:
    """KL(dense ‖ pruned), the mean over predictions, of whole modules.

    A single score is the mean of a normal distribution of variance 1, as in the curvature: its
    divergence is half the squared difference.

    Args:
        dense: the module that predictions are compared with; left as it was.
        batches: inputs; padding does not count (`attention_mask`).
    """

    def __init__(self, dense: nn.Module, batches: Sequence[Any]) -> None:
        self._batches = list(batches)
        with undisturbed(dense), torch.no_grad():
            self._dense = [predictions(dense, batch) for batch in self._batches]

    @property
    def predictions(self) -> int:
        """How many it judges by."""
        return sum(int(weight.sum()) for _, weight in self._dense)

    def __call__(self, pruned: nn.Module) -> float:
        """The divergence of a module from the dense one; infinite where it computes NaN."""
        return _mean(*self.each(pruned))

    def each(self, pruned: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        """Summed divergence of every example and the number of its predictions, (N,), float64."""
        sums, counts = [], []
        with undisturbed(pruned), torch.no_grad():
            for batch, (expected, weight) in zip(self._batches, self._dense, strict=True):
                found, _ = predictions(pruned, batch)
                lost = (divergence(expected, found) * weight).double()
                sums.append(_of_examples(lost))
                counts.append(_of_examples(weight.double()))
        return torch.cat(sums), torch.cat(counts)


class Paired:
    """A judge that knows how far the damages of two prunings differ by chance.

    Both are judged by the same examples, so what counts is how differently the examples see them:
    with u the share of an example in the damage, times the number N of examples, the logarithms of
    two damages differ by chance with the variance Var(u − u') / N.

    Args:
        judge: of modules.

    Attributes:
        pairs: modules that this is known from, the first ones judged.
    """

    pairs = 3

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._shares: list[torch.Tensor] = []

    def __call__(self, pruned: nn.Module) -> float:
        """The divergence of a module from the dense one; infinite where it computes NaN."""
        sums, counts = self._judge.each(pruned)
        found = _mean(sums, counts)
        if len(self._shares) < self.pairs and isfinite(found):
            self._shares.append(sums / sums.mean().clamp_min(1e-30))
        return found

    @property
    def deviation(self) -> float:
        """Standard deviation of the logarithm of one damage, where two are compared.

        From the first few that were judged, each beside the very first; 0 with fewer than two.
        """
        if len(self._shares) < 2 or len(self._shares[0]) < 2:
            return 0.0
        first, *others = self._shares
        each = [(other - first).var() / len(first) / 2 for other in others]
        return float(torch.stack(each).mean().sqrt())


def damage_of(prune: Callable[[], nn.Module], judge: Callable[[nn.Module], float]) -> float:
    """The divergence of a pruning; infinite where what it leaves computes NaN.

    Args:
        prune: carries it out.
        judge: of modules.
    """
    try:
        return judge(prune())
    except LostFunctionError:
        return inf


def rounded(damage: float) -> float | None:
    """To six digits; None for one that is infinite, which JSON does not know."""
    return float(f"{damage:.6g}") if isfinite(damage) else None


def in_words(damage: float | None) -> str:
    """For a sentence: three digits, or that there is none."""
    return "NaN" if damage is None else f"{damage:.3g}"


def _of_examples(values: torch.Tensor) -> torch.Tensor:
    """Sums over all but the first dimension; a value without one is that of one example."""
    whole = torch.atleast_1d(values)
    return whole.reshape(len(whole), -1).sum(1).cpu()


def _mean(sums: torch.Tensor, counts: torch.Tensor) -> float:
    found = float(sums.sum() / counts.sum().clamp_min(1.0))
    return found if isfinite(found) else inf


def cut_and_refitted(
    net: Network,
    model: nn.Module,
    kept: Mapping[str, torch.Tensor],
    batches: Sequence[Any],
) -> tuple[Network, nn.Module]:
    """A network without the units that go, its layers refitted in order, and its module.

    Args:
        net, model: the dense network and its module; left as they were.
        kept: axis name → kept unit indices.
        batches: inputs of the model.
    """
    gone = {axis: without(net.axes[axis].size, index) for axis, index in kept.items()}
    gone = {axis: index for axis, index in gone.items() if len(index)}
    if not gone:
        return net, model
    values = compensate_bias(net, kept, input_means(net, model, batches)).values
    base = net.replace(values).replace(compensate_norms(net, model, kept, batches))
    small = base.remove(gone)
    pruned = rebuild(small).model
    found = refit_in_order(net, model, small, pruned, kept, batches, samples=SAMPLES)
    pruned.load_state_dict(found.values, strict=False)
    return small.replace(found.values), pruned.eval()


def dropped_and_refitted(
    net: Network, model: nn.Module, gone: Sequence[str], batches: Sequence[Any]
) -> nn.Module:
    """The module of a network without residual branches, its layers refitted in order.

    Args:
        net, model: the dense network and its module; left as they were.
        gone: names of blocks.
        batches: inputs of the model.
    """
    small = net.drop(gone)
    pruned = rebuild(small).model
    found = refit_in_order(net, model, small, pruned, {}, batches, samples=SAMPLES)
    pruned.load_state_dict(found.values, strict=False)
    return pruned.eval()


def without(size: int, kept: torch.Tensor) -> torch.Tensor:
    """The indices below `size` that are not kept, int64, ascending."""
    stays = torch.zeros(size, dtype=torch.bool)
    stays[kept] = True
    return (~stays).nonzero().flatten()
