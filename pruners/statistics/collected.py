"""Collected statistics: the moments of many weights, merged, reduced over processes, and saved."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from graphs.tools.documents import FileError, parse_json, told
from graphs.tools.files import read_safetensors, write_safetensors
from pruners.statistics.moments import PAIRS, STATISTICS, Moments

FORMAT = "metaprune-statistics-1"


@dataclass
class Statistics:
    """What calibration saw of the inputs of some weights.

    Args:
        needs: names of the statistics it can tell (`pruners.statistics.STATISTICS`).
        moments: name of a weight that was asked for → moments; without parts if none was measured.
        unreached: name of a weight without curvature, though it was asked for → why.
    """

    needs: frozenset[str]
    moments: dict[str, Moments] = field(default_factory=dict)
    unreached: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.needs = checked(self.needs)

    def merge_(self, other: Statistics) -> Statistics:
        """Add what another pass, device or process saw; in place.

        Raises:
            ValueError: they hold different statistics.
        """
        if self.needs != other.needs:
            raise ValueError(
                f"statistics {sorted(self.needs)} cannot be merged with {sorted(other.needs)}"
            )
        for name, found in other.moments.items():
            self.moments.setdefault(name, Moments()).merge_(found)
        self._unreach(other.unreached)
        return self

    def _unreach(self, reasons: dict[str, str]) -> None:
        """Keep the reasons, these too, of what no part of the data reached."""
        self.unreached = {
            name: why
            for name, why in (reasons | self.unreached).items()
            if "output_gradients" not in self.moments[name].parts
        }

    def all_reduce_(self, group: dist.ProcessGroup | None = None) -> Statistics:
        """Add up over the processes of a group; in place, the same result in every process.

        Every process must have asked for the same statistics of the same weights; which of them its
        batches reached (experts with their routed tokens) may differ.

        Raises:
            ValueError: processes hold different weights.
        """
        mine = {
            name: {part: (value.shape, value.dtype) for part, value in found.parts.items()}
            for name, found in self.moments.items()
        }
        tables: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(tables, (self.needs, mine, self.unreached), group=group)
        if any(needs != self.needs or set(table) != set(mine) for needs, table, _ in tables):
            raise ValueError(
                "processes hold statistics of different weights; ask every process for the same "
                "statistics of the same weights"
            )
        anywhere = next((v for m in self.moments.values() for v in m.parts.values()), None)
        for name, found in sorted(self.moments.items()):
            like = next(iter(found.parts.values()), anywhere)
            for _, table, _ in tables:
                for part, (shape, dtype) in table[name].items():
                    if part not in found.parts:
                        device = None if like is None else like.device
                        found.parts[part] = torch.zeros(shape, dtype=dtype, device=device)
            _all_reduce(found, group)
        for _, _, reasons in tables:
            self._unreach(reasons)
        return self

    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Weight name → statistic → tensor, as solvers read them."""
        return {
            name: found.statistics(self.needs)
            for name, found in self.moments.items()
            if found.parts
        }

    def save(self, path: str | Path) -> None:
        """Write one safetensors file; a file that was there is replaced when all is written."""
        tensors = {
            f"{part}:{name}": value.contiguous()
            for name, found in self.moments.items()
            for part, value in found.parts.items()
        }
        counts = {name: [m.samples, m.positions, m.predictions] for name, m in self.moments.items()}
        about = {
            "format": FORMAT,
            "needs": json.dumps(sorted(self.needs)),
            "counts": json.dumps(counts),
            "unreached": json.dumps(self.unreached),
        }
        plain = {name: value.detach().cpu() for name, value in tensors.items()}
        write_safetensors(path, plain, about)

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> Statistics:
        """Read what `save` wrote.

        Raises:
            ValueError: another kind of file.
        """
        tensors, about = read_safetensors(path)
        if about.get("format") != FORMAT:
            raise FileError(
                f"{path} does not hold calibration statistics (got format "
                f"{about.get('format')!r}, expected {FORMAT!r})"
            )
        with told(path, "collect the statistics again"):
            counts: Mapping[str, list[float]] = parse_json(about["counts"])
            unreached = parse_json(about["unreached"])
            result = cls(frozenset(parse_json(about["needs"])), unreached=unreached)
            for name, (samples, positions, predictions) in counts.items():
                result.moments[name] = Moments(samples, positions, predictions)
            for key, value in tensors.items():
                part, name = key.split(":", 1)
                result.moments[name].parts[part] = value.to(device)
        return result


def checked(needs: Iterable[str]) -> frozenset[str]:
    """The names as a set.

    Raises:
        ValueError: an unknown statistic.
    """
    wanted = frozenset(needs)
    unknown = sorted(wanted - set(STATISTICS))
    if unknown:
        raise ValueError(
            f'unknown statistic "{unknown[0]}": expected one of {", ".join(STATISTICS)}'
        )
    return wanted


def _all_reduce(found: Moments, group: dist.ProcessGroup | None) -> None:
    """Sum in place: first the means, then the distances from the common mean."""
    device = next((value.device for value in found.parts.values()), torch.device("cpu"))
    own = {part: found.count(part) for part in PAIRS}
    numbers = found.samples, found.positions, found.predictions
    counts = torch.tensor(numbers, dtype=torch.float64).to(device)
    dist.all_reduce(counts, group=group)
    found.samples, found.positions, found.predictions = counts.tolist()
    for part, spread in PAIRS.items():
        if part not in found.parts:
            continue
        mean = found.parts[part]
        common = mean * own[part]
        dist.all_reduce(common, group=group)
        common /= max(found.count(part), 1.0)
        found.parts[spread].add_((mean - common).square(), alpha=own[part])
        mean.copy_(common)
    for _, value in sorted((k, v) for k, v in found.parts.items() if k not in PAIRS):
        dist.all_reduce(value, group=group)
