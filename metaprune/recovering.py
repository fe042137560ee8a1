"""`metaprune.recover`: what a pruned network lost is learned again, whoever pruned it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from graphs import Network, trace
from graphs.calls.copying import copy_module
from graphs.calls.modes import own_modes
from metaprune.calibration import Calibration
from metaprune.job import Job
from metaprune.patterns.base import run
from metaprune.planning import check_needs
from metaprune.result import Result
from metaprune.results.accounting import summary
from metaprune.results.dense import Dense
from metaprune.results.history import History, remember
from metaprune.results.provenance import versions
from metaprune.results.pruned import Pruned
from pruners import Plan
from pruners.recovery.base import Pruning, Recovery, methods
from training.data.core import Data
from training.recovery.masked import masks_of


@own_modes()
def recover(
    model: nn.Module | Pruned,
    example_inputs: Any,
    recovery: Sequence[str | Mapping[str, Any]],
    *,
    teacher: nn.Module | None = None,
    calibration: Calibration | Iterable[Any] | None = None,
    data: Data | None = None,
    checkpoints: str | Path | None = None,
    seed: int = 0,
) -> Result:
    """Train a pruned network further; masks stay exact, the model itself is left as it was.

        metaprune.recover(pruned, loader, ["imitate"], teacher=dense)

    Args:
        model: what a pruning returned or `metaprune.load` opened; or any other module, whose zeros
            in matrices and kernels are then its masks.
        example_inputs: see `metaprune.prune`.
        recovery: methods of the stage "after", in order, by name or with options: "finetune",
            "distil", "imitate", "imitate-blocks", "recalibrate".
        teacher: dense network, for the methods that learn from one; of the same layout for
            "imitate-blocks". For "finetune" it is optional.
        calibration, data, checkpoints, seed: see `metaprune.prune`.

    Returns:
        The recovered network. Of a module without a history, costs are compared with the teacher's
        or, without one, with its own.

    Raises:
        ValueError: a method that is none, that acts earlier, or that lacks batches, data or a
            teacher; a model that was not pruned.
        TraceError: the model cannot be exported.
    """
    job = Job.of(model, example_inputs, calibration, data, seed=seed)
    asked = _made(recovery, job, teacher)
    dense = job.net if teacher is None else trace(teacher, job.example_inputs)
    history = job.history or _found(job, dense)
    pruned = copy_module(job.model, {})
    pruning = Pruning(
        plan=history.plan.steps[-1],
        dense=dense,
        base=job.net,
        teacher=teacher,
        example_inputs=job.example_inputs,
        batches=job.batches,
        data=job.data,
        small=job.net,
        pruned=pruned,
        masks=dict(history.masks),
        folder=None if checkpoints is None else Path(checkpoints),
        notes=list(job.notes),
    )
    run(asked, "after", pruning)
    remember(pruned, history)
    report = summary(history.dense, job.net, job.net, pruned, history.plan, pruning.masks)
    report |= {"notes": pruning.notes, "seconds": pruning.seconds, "repaired": [], "varied": {}}
    return Result(
        model=pruned,
        plan=history.plan,
        report=report,
        network=job.net,
        example_inputs=job.example_inputs,
        dense=history.dense,
        masks=pruning.masks,
    )


def _made(
    recovery: Sequence[str | Mapping[str, Any]], job: Job, teacher: nn.Module | None
) -> list[Recovery]:
    """The methods, each with all that it needs.

    Raises:
        ValueError: one acts before the end of a pruning, or lacks something; or there are none.
    """
    found = methods(list(recovery))
    if not found:
        raise ValueError('recover takes methods, such as ["imitate"] (got none)')
    for method in found:
        if method.stage != "after":
            raise ValueError(
                f'recovery method "{method.name}" acts while a network is pruned, not after it: '
                "give it to metaprune.prune"
            )
    check_needs(found, job, taught=teacher is not None)
    return found


def _found(job: Job, dense: Network) -> History:
    """The history of a module that others pruned: its zeros are masks.

    Raises:
        ValueError: it has none.
    """
    masks = masks_of(job.model)
    if not masks:
        raise ValueError(
            "the model was not pruned here, and no weight of it is zero: open what was saved by "
            "metaprune.load, or train a dense model by other means"
        )
    names = job.net.source.aliases
    plan = Plan(
        pattern="unstructured",
        solver="magnitude",
        budget="manual",
        density={names.get(name, name): _kept(mask) for name, mask in masks.items()},
        provenance={"versions": versions(), "found": "in the zeros of the model"},
    )
    return History(Dense.of(dense), plan, masks)


def _kept(mask: Tensor) -> float:
    return float(mask.double().mean())
