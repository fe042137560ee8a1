"""Meta-training: sample a network and a target, take advice, prune, measure, learn.

Step t is a function of the parameters, the optimiser's state, t and the seed, as in
`training.fitting.fit`, so a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from graphs.calls.modes import own_modes
from graphs.tools.documents import told
from training.config import from_mapping
from training.fitting.optim import generator, learning_rate
from training.fitting.tracking import log
from training.meta.judge import Judgement, judge, shrink
from training.meta.objectives import OBJECTIVES
from training.meta.subjects import Subject
from training.store import (
    AGAIN,
    CHECKPOINT,
    load_optimizer,
    load_state,
    optimizer_tensors,
    read_run,
    state_of,
    write_run,
)


@dataclass(frozen=True)
class MetaConfig:
    """Settings of a meta-training run.

    Args:
        objective: a name in `objectives.OBJECTIVES`.
        steps: updates of the metanetwork.
        networks: networks (with a target each) an update.
        batch_size: examples of the loss of one network.
        lr, weight_decay: of AdamW; cosine schedule with a linear rise over `warmup` of the steps.
        clip: highest norm of the gradient of one network, so that no network dominates an update.
        lowest, highest: range of the share of MACs that stays, drawn uniformly.
        blind: share of the steps that give no evidence, so that advice without data is learned too.
        judge_every: updates between judgements on held-out networks; the best metanetwork wins.
        patience: end after so many judgements in a row without a better one; None never does.
        checkpoint_every: updates between checkpoints.
        seed: of everything that is drawn.
    """

    objective: str = "policy-gradient"
    steps: int = 1000
    networks: int = 4
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 1e-3
    warmup: float = 0.05
    clip: float = 1.0
    lowest: float = 0.2
    highest: float = 0.85
    blind: float = 0.25
    judge_every: int = 100
    patience: int | None = None
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        OBJECTIVES.find(self.objective)
        if not 0 < self.lowest < self.highest < 1:
            raise ValueError(
                f"shares need 0 < lowest < highest < 1 (got {self.lowest}, {self.highest})"
            )


@dataclass
class MetaResult:
    """What a run did.

    Args:
        steps: taken in all, those before a resume included.
        losses: of the updates since the last judgement.
        best: the judgement of the parameters that the metanetwork ends with.
        history: one entry a judgement: step, mean training loss, advised, base, wins.
    """

    steps: int = 0
    losses: list[float] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)


@own_modes()
def meta_train(
    meta: nn.Module,
    train: Sequence[Subject],
    held_out: Sequence[Subject],
    config: MetaConfig | Mapping[str, Any],
    *,
    folder: str | Path | None = None,
    report: Callable[[int, float, Judgement | None], None] | None = None,
) -> MetaResult:
    """Train a metanetwork in place; it ends with the parameters that were best on `held_out`.

    Args:
        meta: from `metanet.build`.
        train: networks to learn from.
        held_out: networks to choose by; none of them may be a test network.
        config: a `MetaConfig`, or a mapping of its fields.
        folder: for checkpoints; a run whose folder holds one continues from it.
        report: called with (step, loss, judgement or None) after every update.

    Raises:
        ValueError: for an unknown setting, or a checkpoint of another run.
        FloatingPointError: if the loss is not finite.
    """
    config = config if isinstance(config, MetaConfig) else from_mapping(MetaConfig, config)
    accelerator = Accelerator()
    optimizer = torch.optim.AdamW(meta.parameters(), config.lr, weight_decay=config.weight_decay)
    result = MetaResult()
    best = {name: value.clone() for name, value in state_of(meta).items()}
    identity = _identity(meta, train, held_out, config)
    path = Path(folder) / CHECKPOINT if folder else None
    if path and path.is_file():
        result, best = _resume(path, meta, optimizer, identity)
    prepared, stepper = accelerator.prepare(meta, optimizer)
    losses = result.losses
    for step in range(result.steps, config.steps):
        if _exhausted(result, config.patience):
            break
        rate = learning_rate("cosine", step, config.steps, config.lr, config.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        random = generator(config.seed, step, accelerator.process_index)
        losses.append(_update(prepared, train, config, random, accelerator))
        stepper.step()
        stepper.zero_grad()
        result.steps, judgement = step + 1, None
        if (step + 1) % config.judge_every == 0 or step + 1 == config.steps:
            judgement = judge(meta, held_out)
            mean = sum(losses) / len(losses)
            result.history.append({"step": step + 1, "loss": mean, **asdict(judgement)})
            losses.clear()
            if not result.best or judgement.advised < result.best["advised"]:
                result.best = asdict(judgement) | {"step": step + 1}
                best = {name: value.clone() for name, value in state_of(meta).items()}
        log({"loss": result.history[-1]["loss"] if judgement else losses[-1], "lr": rate}, step + 1)
        if judgement is not None:
            log({f"held_out/{name}": value for name, value in asdict(judgement).items()}, step + 1)
        if report:
            report(step, losses[-1] if losses else result.history[-1]["loss"], judgement)
        if path and accelerator.is_main_process and (step + 1) % config.checkpoint_every == 0:
            _save(path, meta, optimizer, best, result, identity)
    load_state(meta, best, "best parameters of this run")
    result.best |= shrink(meta, held_out)
    return result


def _exhausted(result: MetaResult, patience: int | None) -> bool:
    """Whether the last `patience` judgements were no better than the best before them."""
    judged = [entry["advised"] for entry in result.history]
    if patience is None or len(judged) <= patience:
        return False
    return min(judged[-patience:]) >= min(judged[:-patience])


def _update(
    meta: nn.Module,
    train: Sequence[Subject],
    config: MetaConfig,
    random: torch.Generator,
    accelerator: Accelerator,
) -> float:
    """Accumulate the clipped gradients of a few networks; return their mean loss."""
    parameters = [p for p in meta.parameters() if p.requires_grad]
    total: list[Tensor] = [torch.zeros_like(p) for p in parameters]
    losses = []
    for _ in range(config.networks):
        chosen = _draw(train, random)
        share, blind = torch.rand(2, generator=random).tolist()
        share = config.lowest + (config.highest - config.lowest) * share
        draw = int(torch.randint(1 << 16, (), generator=random))
        evidence = None if blind < config.blind else chosen.evidence(draw)
        batch = chosen.batch(config.batch_size, random)
        advice = meta(chosen.net, evidence, share)
        loss = OBJECTIVES.find(config.objective)(chosen, advice, share, batch, random)
        if not math.isfinite(float(loss.detach())):
            raise FloatingPointError(
                f"the loss of network {chosen.name!r} at share {share:.2f} is {loss.item()}; "
                "lower lr or weight_bound"
            )
        accelerator.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        for sum_, parameter in zip(total, parameters, strict=True):
            if parameter.grad is not None:
                sum_ += parameter.grad / config.networks
                parameter.grad = None
        losses.append(float(loss.detach()))
    for parameter, gradient in zip(parameters, total, strict=True):
        parameter.grad = gradient
    return sum(losses) / len(losses)


def _draw(train: Sequence[Subject], random: torch.Generator) -> Subject:
    """Draw a data set, then a network trained on it: a small zoo counts like a large one."""
    by_data: dict[str, list[Subject]] = {}
    for subject in train:
        by_data.setdefault(subject.data.fingerprint, []).append(subject)
    zoos = list(by_data.values())
    among = zoos[int(torch.randint(len(zoos), (), generator=random))]
    return among[int(torch.randint(len(among), (), generator=random))]


def _identity(
    meta: nn.Module, train: Sequence[Subject], held_out: Sequence[Subject], config: MetaConfig
) -> dict[str, Any]:
    """What must agree for a checkpoint to belong to this run."""
    return {
        "config": asdict(config) | {"checkpoint_every": None, "patience": None},
        "metanet": getattr(meta, "config", {}),
        "train": [subject.name for subject in train],
        "held_out": [subject.name for subject in held_out],
    }


def _save(
    path: Path,
    meta: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Mapping[str, Tensor],
    result: MetaResult,
    identity: Mapping[str, Any],
) -> None:
    parts = {"model": state_of(meta), "optimizer": optimizer_tensors(optimizer), "best": best}
    write_run(path, parts, identity, result=asdict(result))


def _resume(
    path: Path, meta: nn.Module, optimizer: torch.optim.Optimizer, identity: Mapping[str, Any]
) -> tuple[MetaResult, dict[str, Tensor]]:
    parts, record = read_run(path, identity)
    with told(path, AGAIN):
        result, best = MetaResult(**record["result"]), parts["best"]
        load_state(meta, parts["model"], str(path))
        load_optimizer(optimizer, parts.get("optimizer", {}))
    return result, best
