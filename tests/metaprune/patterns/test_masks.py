"""Masks through the pipeline: what divides takes them, and the rest is left alone with a reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import metaprune
from metaprune.patterns import masks
from pruners.solvers import MaskPattern


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 4), nn.Linear(4, 8)
    )


X = (torch.randn(64, 8, generator=torch.Generator().manual_seed(0)),)

PATTERNS = ["unstructured", "row", "column", "column:2", "block:4x4", "block:2x3", "2:4", "1:2"]


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_zeros_fall_where_the_pattern_allows_it(pattern, measured):
    target = None if pattern[0].isdigit() else {"sparsity": 0.5}
    result = metaprune.prune(
        network(), X, pattern=pattern, target=target, metanet=None, budget="uniform",
        calibration=[X] if measured else None,
    )  # fmt: skip
    for name, mask in result.masks.items():
        weight = result.model.get_parameter(name)
        assert (weight[~mask] == 0).all()
        if pattern.startswith("block"):
            height, width = map(int, pattern.removeprefix("block:").split("x"))
            rows, columns = mask.shape
            tiles = mask.reshape(rows // height, height, columns // width, width).double()
            assert ((tiles.mean((1, 3)) == 0) | (tiles.mean((1, 3)) == 1)).all()
        elif pattern.startswith("column"):
            assert ((mask.double().mean(0) == 0) | (mask.double().mean(0) == 1)).all()
        elif pattern == "row":
            assert len(set(mask.sum(1).tolist())) == 1
        elif pattern != "unstructured":
            n, m = map(int, pattern.split(":"))
            assert (mask.reshape(len(mask), -1, m).sum(-1) == n).all()


@pytest.mark.parametrize(
    ("pattern", "left", "reason"),
    [
        ("block:4x4", {"2.weight", "4.weight"}, "6 output rows are not a multiple of 4"),
        ("2:4", {"4.weight"}, "6 input columns are not a multiple of 4"),
        ("unstructured", set(), ""),
    ],
)
def test_what_does_not_divide_is_left_alone_with_a_reason(pattern, left, reason):
    model = network()
    target = None if pattern == "2:4" else {"sparsity": 0.5}
    result = metaprune.prune(model, X, pattern=pattern, target=target, metanet=None)
    weights = {name for name, p in model.named_parameters() if p.ndim == 2}
    assert weights - result.masks.keys() == left
    notes = [note for note in result.report["notes"] if note.startswith("Weights left dense")]
    assert any(reason in note for note in notes) == bool(left)
    for name in left:
        assert torch.equal(result.model.get_parameter(name), model.get_parameter(name))


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_nm_refuses_what_it_does_not_meet(share):
    with pytest.raises(metaprune.UnreachableTargetError, match="leaves no choice"):
        metaprune.prune(network(), X, pattern="2:4", target={"sparsity": share}, metanet=None)


def test_bounds_hold_for_what_a_metanetwork_divides():
    net = metaprune.trace(network(), X)
    names = ["0.weight", "2.weight", "4.weight", "5.weight"]
    logits = {name: torch.tensor(float(i) * 3 - 4) for i, name in enumerate(names)}
    mask, bounds = MaskPattern.parse("unstructured"), {"lower": 0.4, "upper": 0.7}
    free = masks.divided(net, names, 0.5, mask, "metanet", {}, logits)
    assert min(free.values()) < 0.4
    assert max(free.values()) > 0.7
    bound = masks.divided(net, names, 0.5, mask, "metanet", bounds, logits)
    assert min(bound.values()) >= 0.4
    assert max(bound.values()) <= 0.7
    assert masks.kept_share(net, bound) <= 0.5
    # A weight whose earlier mask kept less has that bound too.
    held = {"5.weight": 0.5}
    for rule, given in (("metanet", logits), ("global", None)):
        found = masks.divided(net, names, 0.45, mask, rule, bounds, given, held)
        assert found["5.weight"] <= 0.5
        assert min(found.values()) >= 0.4
    with pytest.raises(ValueError, match='"metanet" does not read "steps"'):
        masks.divided(net, names, 0.5, mask, "metanet", {"steps": 3}, logits)


@pytest.mark.parametrize("rule", ["uniform", "metanet"])
def test_the_same_n_of_m_everywhere_reads_no_options(rule):
    net, mask = metaprune.trace(network(), X), MaskPattern.parse("2:4")
    with pytest.raises(ValueError, match=r'keeps 2 of 4 everywhere .* does not read "lower"'):
        masks.divided(net, ["0.weight"], 0.5, mask, rule, {"lower": 0.9})
