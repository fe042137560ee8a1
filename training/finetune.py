"""Finetuning a pruned network: masks are kept exactly, a dense teacher may help.

The loss is (1 - a) * task loss + a * T^2 * KL(teacher || student) at temperature T, after
Hinton et al. (arXiv 1503.02531), eq. 1 and section 2.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import from_mapping
from training.data.core import Data
from training.evaluate import device_of, mode
from training.fit import fit
from training.settings import FitConfig, FitResult
from training.tasks import IGNORED, Batch, Task

DEFAULTS: Mapping[str, Any] = {"epochs": 3, "lr": 0.02, "evaluate_first": True}


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of finetuning.

    Args:
        fit: of the loop; its own defaults are for training from scratch, these are milder.
        distillation: weight a of the teacher's part of the loss, in [0, 1].
        temperature: T, at which both distributions are compared.
    """

    fit: FitConfig = field(default_factory=lambda: FitConfig(**DEFAULTS))
    distillation: float = 0.5
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.distillation <= 1:
            raise ValueError(f"distillation must lie in [0, 1] (got {self.distillation})")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive (got {self.temperature})")

    @classmethod
    def parse(cls, mapping: Mapping[str, Any]) -> FinetuneConfig:
        """Build from one flat mapping: `distillation`, `temperature`, and fields of `FitConfig`.

        Raises:
            ValueError: for an unknown key.
        """
        own = {f.name for f in fields(cls)} - {"fit"}
        rest = {key: value for key, value in mapping.items() if key not in own}
        loop = from_mapping(FitConfig, {**DEFAULTS, **rest})
        return cls(fit=loop, **{key: mapping[key] for key in own if key in mapping})


def finetune(
    model: nn.Module,
    data: Data,
    config: FinetuneConfig | Mapping[str, Any],
    *,
    masks: Mapping[str, Tensor] | None = None,
    teacher: nn.Module | None = None,
    folder: str | Path | None = None,
) -> FitResult:
    """Finetune a model in place; it ends with the weights that were best on validation.

    Args:
        model: any module, graphs made by `torch.export` included.
        data: with the task.
        config: a `FinetuneConfig`, or a flat mapping; see `FinetuneConfig.parse`.
        masks: parameter name -> bool tensor of its shape, False where the weight is and stays
            exactly zero.
        teacher: network whose outputs are imitated with weight `distillation`; unused when None.
        folder: for checkpoints; a run whose folder holds one continues from it.

    Raises:
        ValueError: for an unknown setting, or a mask that fits no parameter.
    """
    config = config if isinstance(config, FinetuneConfig) else FinetuneConfig.parse(config)
    apply = _masker(model, masks or {})
    apply(model)
    loss = None
    tag = _digest(masks or {})
    if teacher is not None and config.distillation > 0:
        loss = _distilled(teacher, data.task, config.distillation, config.temperature)
        tag += f" distillation {config.distillation} at {config.temperature}"
    home = device_of(teacher) if teacher is not None else None
    try:
        return fit(model, data, config.fit, folder=folder, loss=loss, after_step=apply, tag=tag)
    finally:
        if teacher is not None:
            teacher.to(home)


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """Return masks of the parameters that hold zeros: True where a weight is not zero."""
    return {
        name: parameter.detach() != 0
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and bool((parameter == 0).any())
    }


def distillation_loss(
    outputs: Tensor, teacher_outputs: Tensor, targets: Tensor, temperature: float
) -> Tensor:
    """Return T^2 * KL(teacher || student), the mean over positions with a target, in nats.

    Args:
        outputs, teacher_outputs: (..., classes) logits.
        targets: (...) int64; positions that are `IGNORED` do not count.
        temperature: T.
    """
    counted = targets.flatten() != IGNORED
    student, dense = (
        F.log_softmax(logits.float().flatten(0, -2)[counted] / temperature, dim=-1)
        for logits in (outputs, teacher_outputs)
    )
    return temperature**2 * F.kl_div(student, dense, reduction="batchmean", log_target=True)


def _distilled(
    teacher: nn.Module, task: Task, weight: float, temperature: float
) -> Callable[[nn.Module, Batch], Tensor]:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        outputs = task.forward(model, batch)
        with torch.no_grad(), mode(teacher, training=False):
            imitated = task.forward(teacher.to(batch[0].device), batch)
        kl = distillation_loss(outputs, imitated, batch[1], temperature)
        return (1 - weight) * task.loss(outputs, batch) + weight * kl

    return loss


def _masker(model: nn.Module, masks: Mapping[str, Tensor]) -> Callable[[nn.Module], None]:
    """Check the masks; return the function that puts the zeros back."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        if name not in parameters:
            raise ValueError(f"there is no parameter {name!r} to mask in {type(model).__name__}")
        if mask.dtype != torch.bool or mask.shape != parameters[name].shape:
            raise ValueError(
                f"the mask of {name!r} must be bool of shape {tuple(parameters[name].shape)} "
                f"(got {mask.dtype} {tuple(mask.shape)})"
            )
    pruned = {name: ~mask for name, mask in masks.items()}

    @torch.no_grad()
    def apply(network: nn.Module) -> None:
        for name, zeros in pruned.items():
            parameter = network.get_parameter(name)
            pruned[name] = zeros = zeros.to(parameter.device)
            parameter.masked_fill_(zeros, 0)

    return apply


def _digest(masks: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(masks):
        digest.update(name.encode() + masks[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
