from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruners.solvers import (
    SOLVERS,
    MaskPattern,
    as_matrix,
    build,
    from_matrix,
    solve,
    solver,
    top_k,
)
from pruners.solvers.selection import top_of_columns


def naive_top_k(scores, k):
    mask = torch.zeros_like(scores, dtype=torch.bool)
    for row, line in zip(mask, scores.tolist(), strict=True):
        best = sorted(range(len(line)), key=lambda j: (-line[j], j))[:k]
        row[best] = True
    return mask


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 9),
    k=st.integers(0, 9),
    values=st.sampled_from([1, 3, 1000]),
    seed=st.integers(0, 1000),
)
def test_top_k_is_exact_and_ties_go_first(rows, columns, k, values, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(values, (rows, columns), generator=generator).float()
    k = min(k, columns)
    assert torch.equal(top_k(scores, k), naive_top_k(scores, k))


@pytest.mark.parametrize("candidates", [1, 2, 3, 4, 16, 17, 40])
@pytest.mark.parametrize("lines", [1, 7, 6000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_columns_are_selected_like_rows(candidates, lines, dtype):
    """All pairs, in parts where there are many lines, against a stable sort; half of them tie."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(3, (candidates, lines), generator=generator).to(dtype)
    scores[:, ::2] = torch.rand(candidates, lines, generator=generator)[:, ::2].to(dtype)
    order = scores.sort(dim=0, descending=True, stable=True).indices
    top = top_of_columns(candidates, scores.device)
    for k in {1, candidates // 2, candidates}:
        expected = torch.zeros_like(scores, dtype=torch.bool).scatter_(0, order[:k], True)
        assert torch.equal(top(scores, k), expected)
        assert torch.equal(top_k(scores.T.contiguous(), k).T, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("pattern", ["unstructured", "row"])
def test_magnitude_keeps_the_largest_exactly(dtype, density, pattern):
    weight = torch.randn(6, 20, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = solve("magnitude", weight, density, pattern)
    assert found.weight.dtype == dtype
    assert found.mask.dtype == torch.bool
    expected = 6 * round(density * 20) if pattern == "row" else round(density * 120)
    assert found.mask.sum() == expected == found.statistics["kept"]
    if pattern == "row":
        assert (found.mask.sum(1) == round(density * 20)).all()
    assert torch.equal(found.weight, torch.where(found.mask, weight, 0))
    kept, gone = weight[found.mask].abs(), weight[~found.mask].abs()
    if pattern == "unstructured" and kept.numel() and gone.numel():
        assert kept.min() >= gone.max()
    lost = (gone.double().square().sum() / weight.double().square().sum()).item()
    assert found.statistics["error"] == pytest.approx(lost, rel=1e-4, abs=1e-7)
    assert str(int(found.mask.sum())) in found.status


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "3:4", "4:8", "1:1", "5:5", "2:10"])
def test_every_group_of_m_keeps_n(pattern):
    n, m = map(int, pattern.split(":"))
    weight = torch.randn(7, 3 * m, generator=torch.Generator().manual_seed(0))
    weight[0] = 0  # all tied
    found = solve("magnitude", weight, None, pattern)
    assert (found.mask.reshape(7, 3, m).sum(-1) == n).all()
    again = solve("magnitude", weight, n / m, pattern)
    assert torch.equal(again.mask, found.mask)


def test_groups_of_a_convolution_run_along_input_channels():
    weight = torch.randn(5, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    found = solve("magnitude", weight, None, "2:4")
    assert found.weight.shape == weight.shape
    assert (found.mask.reshape(5, 2, 4, 3, 3).sum(2) == 2).all()
    assert torch.equal(found.weight, weight * found.mask)


@pytest.mark.parametrize("out_dim", [0, 1])
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3), (4, 6, 3, 2), (1, 1), (3, 1, 2, 2)])
def test_the_matrix_view_is_a_bijection(shape, out_dim):
    weight = torch.arange(torch.Size(shape).numel()).reshape(shape)
    matrix = as_matrix(weight, out_dim)
    assert matrix.shape == (shape[out_dim], weight.numel() // shape[out_dim])
    assert torch.equal(from_matrix(matrix, weight.shape, out_dim), weight)
    for row in range(shape[out_dim]):
        assert set(matrix[row].tolist()) == set(weight.select(out_dim, row).flatten().tolist())


def test_row_pattern_of_a_transposed_weight_balances_its_outputs():
    weight = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))  # (in, out)
    found = solve("magnitude", weight, 0.3, "row", out_dim=1)
    assert (found.mask.sum(0) == 3).all()
    assert found.weight.is_contiguous()


def test_the_weight_is_not_modified():
    weight = torch.randn(4, 8)
    before = weight.clone()
    solve("magnitude", weight, 0.5)
    assert torch.equal(weight, before)


@pytest.mark.parametrize(
    ("weight", "density", "pattern", "words"),
    [
        (torch.randn(4, 8), 1.5, "unstructured", r"0 to 1 \(got 1.5\)"),
        (torch.randn(4, 8), None, "row", "0 to 1"),
        (torch.randn(4, 8), 0.5, "4:2", "0 < N <= M"),
        (torch.randn(4, 8), 0.5, "0:4", "0 < N <= M"),
        (torch.randn(4, 8), 0.5, "blocks", 'unknown pattern "blocks"'),
        (torch.randn(4, 8), 0.7, "2:4", "not the asked 0.7"),
        (torch.randn(4, 6), None, "2:4", "6 input columns are not a multiple of 4"),
        (torch.randn(8), 0.5, "row", "output and an input dimension"),
        (torch.ones(4, 8, dtype=torch.int64), 0.5, "row", "floating-point"),
        (torch.full((2, 2), torch.inf), 0.5, "row", "not finite"),
    ],
)
def test_bad_input_is_refused(weight, density, pattern, words):
    with pytest.raises(ValueError, match=words):
        solve("magnitude", weight, density, pattern)


def test_the_registry_is_closed():
    assert "magnitude" in SOLVERS
    with pytest.raises(ValueError, match='unknown solver "best"'):
        build("best")
    with pytest.raises(ValueError, match="already registered"):
        solver("magnitude")(object)
    with pytest.raises(ValueError, match="NaN"):
        top_k(torch.full((1, 3), torch.nan), 1)
    assert MaskPattern.parse(MaskPattern.parse("2:4")) == MaskPattern.parse("2:4")
    assert str(MaskPattern.parse("2:4")) == "2:4"
