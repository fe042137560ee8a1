"""Equal marginal price: move weights to where one more lowers the loss the most."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from pruners.budgets.lamp import lamp
from pruners.budgets.projection import counts, project
from pruners.budgets.registry import LOGIT_MARGIN, allocator
from pruners.solvers.patterns import top_k

# Values by name → (loss, gradient by name); `pruners.statistics.Imitation` is one.
Loss = Callable[[Mapping[str, torch.Tensor]], "tuple[float, Mapping[str, torch.Tensor]]"]

STEPS = 8
RATE = 1.0
MOMENTUM = 0.6
BAND = 0.15  # share of the kept weights on either side of the threshold that set the price


@allocator("price")
def price(
    weights: Mapping[str, torch.Tensor],
    density: float,
    *,
    loss: Loss,
    steps: int = STEPS,
    rate: float = RATE,
    start: Mapping[str, float] | None = None,
) -> dict[str, float]:
    r"""Descend on the logits of the shares until an extra weight is worth the same everywhere.

    At the current budget one backward pass gives the price of every tensor, the change of the loss
    for each further weight that is kept, and the market price that the budget allows:

        b_l = Σ g·w·s(1 − s) / Σ s(1 − s),     λ = Σ b_l n_l k_l(1 − k_l) / Σ n_l k_l(1 − k_l)
        θ_l ← θ_l − η·v_l,     v ← 0.6 v + (b − λ) / max|b − λ|,     k = project(θ)

    g is the gradient at the pruned weights and s(1 − s) weights those near the threshold. η falls
    linearly to 0. The best budget seen, by its loss with the exact masks, is returned.

    Args:
        weights: tensor name → weight.
        density: kept share of all of them.
        loss: weights by name → (loss, gradient by name), differentiable at zeros.
        steps: backward passes that move the budget; one more judges the last one.
        rate: first η.
        start: kept share by tensor name; default LAMP.

    Raises:
        ValueError: a loss that is not finite.
    """
    sizes = [weight.numel() for weight in weights.values()]
    total = round(density * sum(sizes))
    magnitudes = {name: w.detach().abs().float() for name, w in weights.items()}
    begin = lamp(weights, density) if start is None else start
    share = torch.tensor([begin[name] for name in weights], dtype=torch.float64)
    if total in (0, sum(sizes)):
        return dict.fromkeys(weights, float(density))

    logits = torch.logit(share.clamp(LOGIT_MARGIN, 1 - LOGIT_MARGIN))
    velocity = torch.zeros_like(logits)
    best_loss, best = float("inf"), begin
    for step in range(steps + 1):
        share = project(logits, sizes, density)
        kept = counts(share, sizes, total)
        masks = {
            name: top_k(m.reshape(1, -1), k).reshape(m.shape)
            for (name, m), k in zip(magnitudes.items(), kept, strict=True)
        }
        value, gradients = loss({name: w.detach() * masks[name] for name, w in weights.items()})
        if value != value or value == float("inf"):
            raise ValueError(f"the loss is not finite at step {step} (got {value})")
        if value < best_loss:
            pairs = zip(kept, sizes, strict=True)
            best_loss, best = value, {n: k / s for n, (k, s) in zip(weights, pairs, strict=True)}
        if step == steps:
            break
        prices = torch.tensor(
            [
                marginal_price(w.detach() * gradients[name], magnitudes[name], k)
                for (name, w), k in zip(weights.items(), kept, strict=True)
            ],
            dtype=torch.float64,
        )
        room = torch.tensor(sizes) * share * (1 - share)
        excess = prices - (prices * room).sum() / room.sum()
        velocity = MOMENTUM * velocity + excess / excess.abs().max().clamp_min(1e-30)
        logits = logits - rate * (1 - step / steps) * velocity
    return dict(best)


def marginal_price(products: torch.Tensor, magnitudes: torch.Tensor, kept: int) -> float:
    """Mean of w·∂L/∂w over the weights near the threshold: the loss a further weight costs.

    Args:
        products: w·g of a tensor, g taken where the pruned weights are zero.
        magnitudes: |w|, the same shape, float32.
        kept: number of weights that stay.

    Returns:
        Negative where one more weight lowers the loss.
    """
    size = magnitudes.numel()
    flat = magnitudes.flatten()
    spread = max(1, round(BAND * kept))

    def ranked(rank: int) -> float:  # the rank-th largest
        return flat.kthvalue(size - min(max(rank, 1), size) + 1).values.item()

    threshold = 0.5 * (ranked(kept) + ranked(kept + 1))
    width = max(0.5 * (ranked(kept - spread) - ranked(kept + spread)), 1e-12 + 1e-6 * threshold)
    s = torch.sigmoid((flat - threshold) / (0.5 * width))
    band = s * (1 - s)
    return ((products.flatten().float() * band).sum() / band.sum().clamp_min(1e-30)).item()
