"""Every solver on every pattern where inputs or weights are degenerate: exact, finite, no worse."""

from __future__ import annotations

import pytest
import torch

from pruners.solvers import SOLVERS, MaskPattern, relative_error, solve
from pruners.solvers.damping import damp
from pruners.solvers.matrix import narrowed
from tests.pruners.solvers.algorithms.test_formulas import problem
from tests.pruners.solvers.test_laws import known, units

WEIGHT, HESSIAN = problem(4, 28, dtype=torch.float32)
DEAD = HESSIAN.clone()
DEAD[::3], DEAD[:, ::3] = 0, 0
LINE = torch.linspace(-1, 2, 28)[:, None]
UNITS = torch.logspace(-6, 6, 28)

CASES = {
    # name: weight and Hessian
    "some inputs always zero": (WEIGHT, DEAD),
    "all inputs always zero": (WEIGHT, torch.zeros(28, 28)),
    "all weights tie": (torch.ones(4, 28), torch.eye(28)),
    "all weights zero": (torch.zeros(4, 28), HESSIAN),
    "one sample": (WEIGHT, LINE @ LINE.T),
    "all inputs equal": (WEIGHT, torch.ones(28, 28)),
    "tiny": (WEIGHT * 1e-20, HESSIAN * 1e-20),
    "huge": (WEIGHT * 1e15, HESSIAN * 1e15),
    "inputs in units from 1e-6 to 1e6": (WEIGHT, HESSIAN * UNITS[:, None] * UNITS),
    "one row": (WEIGHT[:1], HESSIAN),
    "one column": (WEIGHT[:, :1], HESSIAN[:1, :1]),
    "one weight": (WEIGHT[:1, :1], HESSIAN[:1, :1]),
    "one weight, input zero": (WEIGHT[:1, :1], torch.zeros(1, 1)),
}
NARROW = (torch.bfloat16, torch.float16)
ASKED = [
    *((name, share, torch.float32) for name in ("unstructured", "row") for share in (0, 0.3, 1)),
    *((name, None, torch.float32) for name in ("1:4", "3:7", "2:14", "1:1")),
    *((name, 0.5, torch.float32) for name in ("column", "column:7", "block:2x4", "block:1x2")),
    *((name, share, d) for name, share in (("row", 0.5), ("3:7", None)) for d in NARROW),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", list(SOLVERS))
def test_masks_are_exact_and_weights_finite(name, case):
    wide, hessian = CASES[case]
    for text, density, dtype in ASKED:
        pattern = MaskPattern.parse(text)
        weight = narrowed(wide, dtype)
        if pattern.refusal(*weight.shape) is not None:
            continue
        if name == "low-rank" and text != "unstructured":
            continue
        found = solve(name, weight, density, pattern, statistics=known(weight, hessian))
        where = (text, density, dtype)
        assert found.weight.dtype == dtype, where
        assert found.weight.isfinite().all(), where
        error = relative_error(weight.double(), found.weight.double(), hessian.double())
        assert error <= 1.0001, where
        assert 0 <= found.statistics["error"] <= 1.0001, where
        if found.factors is not None:
            assert found.factors.left.dtype == found.factors.right.dtype == dtype
            continue
        kept, share = units(found.mask, text), pattern.density(density)
        assert (kept.sum(0) == round(share * kept.shape[0])).all(), where
        assert (found.weight[~found.mask] == 0).all(), where
        if share == 1:
            assert torch.equal(found.weight, weight), where


@pytest.mark.parametrize("name", [*SOLVERS])
def test_what_leaves_float32_is_computed_in_float64_and_that_is_said(name):
    """The same problem in units of 1e15 or 1e-20: the same answer in those units."""
    plain = solve(name, WEIGHT.double(), 0.5, statistics=known(WEIGHT, HESSIAN.double(), 300))
    assert "float64" not in plain.status
    for unit in (2.0**50, 2.0**-60):
        statistics = known(WEIGHT, HESSIAN * unit, 300)
        statistics["gradients"] = statistics["gradients"] * unit**0.5
        found = solve(name, WEIGHT * unit, 0.5, statistics=statistics)
        assert found.status.count("Computed in float64") == 1
        assert found.weight.dtype == torch.float32
        assert torch.equal(found.mask, plain.mask)
        torch.testing.assert_close(found.weight / unit, plain.weight.float(), rtol=1e-3, atol=1e-5)


def test_a_factorisation_that_float32_cannot_make_is_made_in_float64():
    """Two inputs equal but for the last bit: λ stays what was asked for, and nothing is lost."""
    share = last = 2.0**-23
    hessian = torch.tensor([[1.0, 1.0 - last], [1.0 - last, 1.0]])
    pivot = (1 + share) - (1 - last) ** 2 / (1 + share)
    assert pivot < 4 * torch.finfo(torch.float32).eps * 2  # rounding, as float32 sees it
    found = damp(hessian, share)
    assert (found.share, found.note) == (share, "")
    assert found.variances.tolist() == pytest.approx([pivot, pivot])


def test_weights_out_of_range_become_the_largest_of_their_dtype():
    values = torch.tensor([1e30, -1e30, 2.5, 0.0])
    assert narrowed(values, torch.float16).tolist() == [65504.0, -65504.0, 2.5, 0.0]
    assert torch.equal(narrowed(values, torch.bfloat16), values.bfloat16())
    assert narrowed(values, torch.float64).dtype == torch.float64
