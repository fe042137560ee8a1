"""Finetuning a pruned network: masks are kept exactly, a dense teacher may help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from graphs.tools.digests import tensors_digest
from training.config import check_names, check_positive, from_mapping
from training.data.core import Data
from training.fitting.evaluate import device_of
from training.fitting.fit import fit
from training.fitting.settings import FitConfig, FitResult
from training.fitting.tracking import within
from training.recovery.distilled import imitate
from training.recovery.masked import constraint_of
from training.recovery.partial import Part, partly_trained
from training.store import state_of


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of finetuning.

    Args:
        fit: of the loop; its own defaults are for training from scratch, these are milder.
        distillation: weight a of the teacher's part of the loss, in [0, 1].
        temperature: T, at which both distributions are compared.
        part: of the network that is trained: "all", "vectors" (biases and norms) or "low-rank"
            (updates inside of the masks, merged at the end, beside vectors).
        rank: of these updates.
    """

    fit: FitConfig = field(
        default_factory=lambda: FitConfig(epochs=3, lr=0.02, evaluate_first=True)
    )
    distillation: float = 0.5
    temperature: float = 2.0
    part: Part = "all"
    rank: int = 8

    def __post_init__(self) -> None:
        check_positive(self, "rank")
        if not 0 <= self.distillation <= 1:
            raise ValueError(f"distillation must lie in [0, 1] (got {self.distillation})")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive (got {self.temperature})")

    @classmethod
    def parse(cls, mapping: Mapping[str, Any], where: str = "") -> FinetuneConfig:
        """Build from one flat mapping of its own fields but `fit`, and of those of `FitConfig`.

        Args:
            mapping: setting → value; what is left out is this class's default.
            where: full name of the mapping among the settings, for errors.

        Raises:
            ValueError: an unknown setting, or a value that a setting does not take.
        """
        own = {f.name for f in fields(cls)} - {"fit"}
        check_names(mapping, [f.name for f in fields(FitConfig)] + sorted(own), where)
        loop = {name: value for name, value in mapping.items() if name not in own}
        fit = from_mapping(FitConfig, {**vars(cls().fit), **loop}, where)
        flat = {name: value for name, value in mapping.items() if name in own}
        return from_mapping(cls, {**flat, "fit": fit}, where)


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
    constraint_of(model, masks or {})(model)
    loss = None
    tag = f"{tensors_digest(sorted((masks or {}).items()))} from {tensors_digest(state_of(model))}"
    if teacher is not None and config.distillation > 0:
        loss = imitate(teacher, data.task, config.distillation, config.temperature)
        whose = tensors_digest(state_of(teacher))
        tag += f" distillation {config.distillation} at {config.temperature} of {whose}"
    if config.part != "all":
        tag += f" {config.part} {config.rank}"
    home = device_of(teacher) if teacher is not None else None
    try:
        with (
            within("finetune"),
            partly_trained(model, config.part, masks or {}, config.rank, config.fit.seed) as kept,
        ):
            restore = constraint_of(model, kept)
            return fit(
                model, data, config.fit, folder=folder, loss=loss, after_step=restore, tag=tag
            )
    finally:
        if teacher is not None:
            teacher.to(home)
