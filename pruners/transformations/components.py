r"""Components: an axis turned so that its last features are those that its readers miss least.

With H = LLᵀ the moments of what a weight reads, features in the order in which they stay, and
A = WᵀGW what its outputs make of them, the expected loss of the first n features after a refit is
(`pruners.curves.axes`)

    ℓ(n) = ½ Σ_readers Σ_{columns c of features > n} l_cᵀ A l_c,

and a rotation M turns H into M H Mᵀ and A into M A Mᵀ. The start is the eigenbasis of

    Σ C / tr C + A / tr A,      C = H / tr H,      sums over the readers,

the metric of output-aware slicing (arXiv 2609.35579, there for single layers and without a refit)
with equal parts. Descent makes Σ ℓ(n) / ℓ₀(n) small over all n from half of the features on, ℓ₀ at
the start: one basis for every width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from pruners.curves import Sides
from pruners.curves.axes import DAMPING
from pruners.transformations.closed import eigenvectors
from pruners.transformations.descent import descend, without_ones
from pruners.transformations.importance import Matrices, damped, turned_rows
from pruners.transformations.sites import Site

LEAST = 1e-6
"""Share of the loss of the whole axis that is nothing."""


@dataclass(frozen=True)
class Reader:
    """Weights that read the same inputs, in a form whose losses can be asked for any rotation.

    Args:
        moments: H of the inputs, (in, in), float64.
        outputs: A = Σ WᵀGW, (in, in), float64.
        sites: where columns turn, with this axis and others.
        axis: name of the axis whose features go.
        weights: how many they are.
    """

    moments: torch.Tensor
    outputs: torch.Tensor
    sites: Sequence[Site]
    axis: str
    weights: int = 1

    @classmethod
    def of(cls, one: Sides, sites: Sequence[Site], axis: str) -> Reader:
        """A weight with a single group."""
        weight, moments, curvature = one.weight[0], one.hessian[0], one.curvature[0]
        return cls(moments, weight.T @ curvature @ weight, sites, axis)

    def joined(self, other: Reader) -> Reader | None:
        """Both as one; None where they read other inputs."""
        pairs = list(zip(self.sites, other.sites, strict=False))
        if (
            len(pairs) < max(len(self.sites), len(other.sites))
            or any(a.axis != b.axis or not torch.equal(a.index, b.index) for a, b in pairs)
            or not torch.equal(self.moments, other.moments)
        ):
            return None
        outputs, weights = self.outputs + other.outputs, self.weights + other.weights
        return replace(self, outputs=outputs, weights=weights)

    @property
    def own(self) -> list[Site]:
        """Where its columns turn with this axis."""
        return [site for site in self.sites if site.axis == self.axis]

    def losses(self, matrices: Matrices) -> torch.Tensor:
        """ℓ of these weights with the first 0, 1, ... all features, (units + 1,), float64."""
        matrices = {axis: matrix.double() for axis, matrix in matrices.items()}
        units = matrices[self.axis].shape[-1]
        unit = torch.full((len(self.moments),), -1, device=self.moments.device)
        for site in self.own:
            unit[site.index] = torch.arange(units, device=unit.device).expand_as(site.index)
        columns = unit.argsort(stable=True)  # what reads other axes is never cut here
        moments, outputs = (
            self._turned(matrix, matrices)[columns][:, columns]
            for matrix in (self.moments, self.outputs)
        )
        factor = torch.linalg.cholesky(damped(moments, DAMPING, uniform=False))
        each = (factor * (outputs @ factor)).sum(0) / 2
        lost = each.new_zeros(units + 1).index_add(0, unit[columns] + 1, each)[1:]
        behind = lost.flip(0).cumsum(0).flip(0)
        return torch.cat([behind, behind.new_zeros(1)])

    def _turned(self, matrix: torch.Tensor, matrices: Matrices) -> torch.Tensor:
        for _ in range(2):
            for site in self.sites:
                matrix = turned_rows(matrix, matrices, site)
            matrix = matrix.T
        return matrix


def readers(sides: Mapping[str, Sides], sites: Sequence[Site]) -> dict[str, list[Reader]]:
    """Axis → the weights that read it, those of the same inputs together.

    Args:
        sides: of the weights, by name.
        sites: of all axes that turn.
    """
    found: dict[str, list[Reader]] = {}
    reading = [site for site in sites if not site.rows]
    for name, one in sides.items():
        own = [site for site in reading if site.weight == name]
        for axis in dict.fromkeys(site.axis for site in own):
            reader, others = Reader.of(one, own, axis), found.setdefault(axis, [])
            for i, other in enumerate(others):
                if (both := other.joined(reader)) is not None:
                    others[i] = both
                    break
            else:
                others.append(reader)
    return found


def components(of_axis: Sequence[Reader], shape: Sequence[int], *, ones: bool) -> torch.Tensor:
    """The closed form: the matrix whose rows are the components, the strongest first.

    Args:
        of_axis: what reads the axis.
        shape: of the matrix, (units, units) or (units of another axis, units, units).
        ones: whether rotations keep the vector of ones: then it is the nearest one that does.

    Returns:
        float64, of this shape.
    """
    moments, outputs = of_axis[0].moments.new_zeros((2, *shape))
    for reader in of_axis:
        for site in reader.own:
            blocks = site.index[:, :, None], site.index[:, None, :]
            inputs = reader.moments[blocks]
            size = inputs.diagonal(dim1=-2, dim2=-1).sum()
            inputs = inputs * reader.weights / size if size > 0 else inputs
            moments += _placed(inputs, site, shape)
            outputs += _placed(reader.outputs[blocks], site, shape)
    sums = (moments, outputs)
    return eigenvectors([without_ones(m) for m in sums] if ones else sums, ones=ones)


def _placed(blocks: torch.Tensor, site: Site, shape: Sequence[int]) -> torch.Tensor:
    """(runs, units, units) summed into the matrices of an axis."""
    if site.which is None:
        return blocks.sum(0)
    return blocks.new_zeros(tuple(shape)).index_add(0, site.which, blocks)


def ordered(
    of_axes: Mapping[str, Sequence[Reader]], start: Matrices, steps: int, ones: frozenset[str]
) -> Matrices:
    """The rotations after a descent of Σ ℓ(n) / ℓ₀(n); the start where none is better.

    Args:
        of_axes: what reads each axis.
        start: axis → rotation, float64.
        steps: of the descent.
        ones: axes whose rotations keep the vector of ones.
    """
    worth = {}
    for axis, own in of_axes.items():
        first = losses(own, start)
        least = LEAST * first[0] if first[0] > 0 else 1.0
        worth[axis] = 1 / (first + least)
        worth[axis][: (len(first) - 1) // 2] = 0

    def lost(matrices: Matrices) -> float:
        return sum(float(losses(own, matrices) @ worth[a]) for a, own in of_axes.items())

    terms = [_term(reader, worth[axis]) for axis, own in of_axes.items() for reader in own]
    found = descend(start, terms, steps, ones)
    return min(start, found, key=lost)


def losses(of_axis: Iterable[Reader], matrices: Matrices) -> torch.Tensor:
    """ℓ with the first 0, 1, ... all features of an axis, (units + 1,), float64."""
    return torch.stack([reader.losses(matrices) for reader in of_axis]).sum(0)


def _term(reader: Reader, worth: torch.Tensor) -> Callable[[Matrices], torch.Tensor]:
    return lambda matrices: reader.losses(matrices) @ worth
