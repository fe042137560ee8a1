r"""A reference of the published curvature pruners: LLM Surgeon (van der Ouderaa et al. 2024).

Written from the formulas, in the order in which the paper states them: nothing is shared with the
product's own expected loss. A change ΔW of a layer's weights is said to cost

    ½ tr(G ΔW A ΔWᵀ),      A = E[x xᵀ],      G = E[g gᵀ],

x what goes into the layer, g the gradient of the loss of the calibration texts' own next tokens at
what comes out (the empirical Fisher), tokens taken as independent, both damped by a share of their
mean diagonal, everything in float64. With w what is removed and all else in the layer free to move,

    a weight costs   ½ w² / ([G⁻¹]_rr [A⁻¹]_cc),
    a row            ½ wᵀ A w / [G⁻¹]_rr,
    a column         ½ wᵀ G w / [A⁻¹]_cc.

Costs of all layers stand in one list, the cheapest go, and what stays is moved to the optimum of
the same expression. That is repeated in shots, with the curvature taken anew at the pruned network.

Unlike the published program, the optimum is exact over all weights that a layer has lost (the
program takes small blocks of them as correlated), and the 2 of 4 inputs always lie in one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DAMPING = 0.01
"""Share of the mean diagonal that is added to the diagonal of a factor."""

DAMPING_OF_SINGLE_WEIGHTS = 0.1
"""The same for G where single weights go."""

LEAST_DAMPING = 1e-30

UNSTRUCTURED, TWO_OF_FOUR, ROWS_AND_COLUMNS = "unstructured", "2:4", "rows and columns"

GROUP, GOES = 4, 2
"""Inputs of a group of 2:4, and how many of them go."""

TOLERANCE, MOST_STEPS = 1e-4, 5000
"""Of the conjugate gradients: relative to the first residual; steps at most."""


@dataclass(frozen=True)
class Factors:
    """Curvature of a layer.

    Args:
        inputs: A, (in, in), float64.
        outputs: G, (out, out), float64.
    """

    inputs: Tensor
    outputs: Tensor

    def among(self, rows: Tensor, columns: Tensor) -> Factors:
        """Of some outputs and inputs, chosen by booleans."""
        return Factors(self.inputs[columns][:, columns], self.outputs[rows][:, rows])

    def damped(self, outputs: float) -> Factors:
        """With shares of the mean diagonals added, `outputs` for G."""
        return Factors(damped(self.inputs, DAMPING), damped(self.outputs, outputs))


def damped(factor: Tensor, share: float) -> Tensor:
    """A factor + (share · mean of its diagonal + `LEAST_DAMPING`) · I; an empty one stays empty.

    So what nothing depends on any more, where the factor is 0, costs next to nothing.
    """
    mean = factor.trace() / max(len(factor), 1)
    return factor + torch.eye(len(factor), dtype=factor.dtype) * (share * mean + LEAST_DAMPING)


def inverse_diagonal(factor: Tensor) -> Tensor:
    """The diagonal of the inverse of a positive definite matrix."""
    return torch.cholesky_inverse(torch.linalg.cholesky(factor)).diagonal()


def pruned(
    model: nn.Module,
    layers: Mapping[str, nn.Linear],
    batches: Iterable[Mapping[str, Tensor]],
    pattern: str,
    share: float,
    shots: int,
) -> dict[str, Tensor]:
    """Prune a causal language model, in place.

    Args:
        model: in evaluation mode; returns `logits`, and has `get_input_embeddings`.
        layers: linear layers of it that are pruned, by name.
        batches: each {"input_ids": (B, T) int64}.
        pattern: `UNSTRUCTURED`, `TWO_OF_FOUR` or `ROWS_AND_COLUMNS`.
        share: of the layers' weights that goes; as good as half for 2:4.
        shots: in how many equal steps.

    Returns:
        Masks of what stays, (out, in), booleans.
    """
    batches = list(batches)
    masks = {
        name: torch.ones_like(layer.weight, dtype=torch.bool) for name, layer in layers.items()
    }
    for shot in range(1, shots + 1):
        found = curvature(model, layers, batches)
        weights = {name: layer.weight.detach().double() for name, layer in layers.items()}
        goal = share * shot / shots
        if pattern == ROWS_AND_COLUMNS:
            before, masks = masks, choose_rows_and_columns(weights, found, masks, goal)
            moved = {
                name: without_rows_and_columns(weights[name], found[name], before[name], mask)
                for name, mask in masks.items()
            }
        else:
            firm = {n: f.damped(DAMPING_OF_SINGLE_WEIGHTS) for n, f in found.items()}
            group = GROUP if pattern == TWO_OF_FOUR else None
            masks = choose_weights(weights, firm, masks, goal, group)
            moved = {n: without_weights(weights[n], firm[n], mask) for n, mask in masks.items()}
        with torch.no_grad():
            for name, layer in layers.items():
                layer.weight.copy_(moved[name])
    return masks


def curvature(
    model: nn.Module, layers: Mapping[str, nn.Linear], batches: Iterable[Mapping[str, Tensor]]
) -> dict[str, Factors]:
    """Factors of every layer, means over all tokens.

    Args:
        model: see `pruned`; its parameters are left without gradients.
        layers: by name.
        batches: token ids; each token but the first of a window is a label.
    """
    model.requires_grad_(False)
    found = {
        name: Factors(
            torch.zeros(layer.in_features, layer.in_features, dtype=torch.float64),
            torch.zeros(layer.out_features, layer.out_features, dtype=torch.float64),
        )
        for name, layer in layers.items()
    }

    def watch(name: str, inputs: Tensor, output: Tensor) -> None:
        def add(gradient: Tensor) -> None:
            found[name].outputs.add_(_second_moment(gradient))

        found[name].inputs.add_(_second_moment(inputs.detach()))
        output.register_hook(add)

    embedding = model.get_input_embeddings()  # type: ignore[operator]
    hooks = [embedding.register_forward_hook(lambda module, args, out: out.requires_grad_())]
    for name, layer in layers.items():
        hooks.append(
            layer.register_forward_hook(
                lambda module, args, out, name=name: watch(name, args[0], out)
            )
        )
    tokens = 0
    try:
        for batch in batches:
            ids = batch["input_ids"]
            logits = model(input_ids=ids).logits[:, :-1]
            F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum").backward()
            tokens += ids.numel()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: Factors(f.inputs / tokens, f.outputs / tokens) for name, f in found.items()}


def _second_moment(values: Tensor) -> Tensor:
    rows = values.flatten(0, -2).double()
    return rows.T @ rows


def choose_weights(
    weights: Mapping[str, Tensor],
    factors: Mapping[str, Factors],
    masks: Mapping[str, Tensor],
    share: float,
    group: int | None = None,
) -> dict[str, Tensor]:
    """The cheapest weights of all layers go, with those that went before.

    Args:
        weights: (out, in), float64, by layer.
        factors: damped, by layer.
        masks: of what is still there.
        share: of all weights that is gone afterwards.
        group: inputs of a row that lose at most two of them; None without groups.

    Returns:
        Masks of what stays.
    """
    costs = {}
    for name, w in weights.items():
        f = factors[name]
        scale = inverse_diagonal(f.outputs)[:, None] * inverse_diagonal(f.inputs)
        cost = (0.5 * w.square() / scale).masked_fill(~masks[name], -1)
        if group is not None:
            dearest = cost.unflatten(1, (-1, group)).argsort(2).argsort(2) >= GOES
            cost = cost.masked_fill(dearest.flatten(1), torch.inf)
        costs[name] = cost
    listed = torch.cat([cost.flatten() for cost in costs.values()])
    stays = torch.ones(len(listed), dtype=torch.bool)
    stays[listed.argsort()[: round(share * len(listed))]] = False
    parts = stays.split([cost.numel() for cost in costs.values()])
    return {n: part.view_as(costs[n]) for n, part in zip(costs, parts, strict=True)}


def without_weights(weight: Tensor, factors: Factors, mask: Tensor) -> Tensor:
    """The weights within a mask that are nearest: argmin tr(G ΔW A ΔWᵀ), ΔW = −W outside of it.

    Solved by conjugate gradients on what stays, which is the closed form with all that goes taken
    together, without its matrix of (weights that go)².

    Args:
        weight: (out, in), float64.
        factors: damped.
        mask: of what stays.

    Raises:
        RuntimeError: no convergence.
    """
    found = weight * mask
    scale = torch.outer(factors.outputs.diagonal(), factors.inputs.diagonal())
    residual = factors.outputs @ (weight - found) @ factors.inputs * mask
    step = residual / scale
    inner = (residual * step).sum()
    if inner == 0:
        return found
    least = inner * TOLERANCE**2
    for _ in range(MOST_STEPS):
        image = factors.outputs @ step @ factors.inputs * mask
        length = inner / (step * image).sum()
        found = found + length * step
        residual = residual - length * image
        ready = residual / scale
        before, inner = inner, (residual * ready).sum()
        if inner <= least:
            return found
        step = ready + inner / before * step
    raise RuntimeError(
        f"conjugate gradients did not converge in {MOST_STEPS} steps for a weight of shape "
        f"{tuple(weight.shape)}; raise the damping"
    )


def choose_rows_and_columns(
    weights: Mapping[str, Tensor],
    factors: Mapping[str, Factors],
    masks: Mapping[str, Tensor],
    share: float,
) -> dict[str, Tensor]:
    """The cheapest rows and columns of all layers go: as few as take the share of all weights.

    Args:
        weights: (out, in), float64, by layer.
        factors: not damped yet.
        masks: of what is still there: whole rows and columns are missing.
        share: of all weights that is gone afterwards, at least.

    Returns:
        Masks of what stays.
    """
    listed: list[tuple[float, str, int, int]] = []
    for name, w in weights.items():
        alive = masks[name].any(1), masks[name].any(0)
        f = factors[name].among(*alive).damped(DAMPING)
        part = w[alive[0]][:, alive[1]]
        costs = (
            0.5 * (part @ f.inputs * part).sum(1) / inverse_diagonal(f.outputs),
            0.5 * (f.outputs @ part * part).sum(0) / inverse_diagonal(f.inputs),
        )
        for side in (0, 1):
            places = alive[side].nonzero().flatten().tolist()
            listed += [
                (c, name, side, i) for c, i in zip(costs[side].tolist(), places, strict=True)
            ]
    listed.sort()
    total = sum(mask.numel() for mask in masks.values())
    goal, gone = share * total, total - sum(int(mask.sum()) for mask in masks.values())
    chosen = {name: mask.clone() for name, mask in masks.items()}
    for _, name, side, index in listed:
        if gone >= goal:
            break
        line = chosen[name].select(side, index)
        gone += int(line.sum())
        line.fill_(False)
    return chosen


def without_rows_and_columns(
    weight: Tensor, factors: Factors, before: Tensor, mask: Tensor
) -> Tensor:
    """What stays after rows, then columns have gone, each all at once.

    The rows that stay take over −ΔW = G_ss⁻¹ G_sr W_r of those that go, whatever A is, and the
    columns in the same way, whatever G is; those that went earlier have no say.

    Args:
        weight: (out, in), float64.
        factors: not damped yet.
        before: mask of what was there, by whole rows and columns.
        mask: of what stays.
    """
    rows, columns = before.any(1), before.any(0)
    f = factors.among(rows, columns).damped(DAMPING)
    left = _without_rows(weight[rows][:, columns], f.outputs, mask.any(1)[rows])
    left = _without_rows(left.T, f.inputs, mask.any(0)[columns]).T
    found = torch.zeros_like(weight)
    found[rows.nonzero(), columns.nonzero().T] = left
    return found * mask


def _without_rows(weight: Tensor, factor: Tensor, stays: Tensor) -> Tensor:
    found = torch.zeros_like(weight)
    pull = factor[stays][:, ~stays] @ weight[~stays]
    root = torch.linalg.cholesky(factor[stays][:, stays])
    found[stays] = weight[stays] + torch.cholesky_solve(pull, root)
    return found
