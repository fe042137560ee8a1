from __future__ import annotations

import pytest
import torch

from graphs.axes.dims import Atom, Axis, Fixed, Prod, Sum
from pruners.positions import to_all_units, to_positions, to_units
from pruners.units import corrected, normalized, unit_scores
from pruners.units.scores import SCORED_ROLES
from tests.pruners.conftest import make


def energy(net, norm):
    power = 1 if norm == "l1" else 2
    scored = [t.value for t in net.tensors.values() if t.role in SCORED_ROLES]
    return sum(value.abs().pow(power).sum() for value in scored)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_score_is_what_goes_with_the_unit(case, norm):
    """The slow twin: really remove each unit and see what is missing."""
    scores = unit_scores(case.net, norm)
    assert set(scores) == {name for name, axis in case.net.axes.items() if axis.frozen is None}
    assert scores
    for axis, score in scores.items():
        assert score.shape == (case.net.axes[axis].size,)
        for unit in range(score.numel()):
            lost = energy(case.net, norm) - energy(case.net.remove(axis, [unit]), norm)
            expected = lost if norm == "l1" else lost.sqrt()
            torch.testing.assert_close(score[unit], expected, rtol=1e-9, atol=1e-9)


def test_scores_move_with_the_units(case):
    for axis, score in unit_scores(case.net).items():
        order = torch.randperm(score.numel(), generator=torch.Generator().manual_seed(1))
        permuted = unit_scores(case.net.permute(axis, order))
        torch.testing.assert_close(permuted[axis], score[order])


def test_other_values_are_scored_differentiably_and_dead_units_have_no_gradient(cnn):
    net = cnn.net
    dead = {"conv1.weight": (0, 3), "norm1.weight": (0, 3), "norm1.bias": (0, 3)}
    values = {name: net.tensors[name].value.clone() for name in (*dead, "conv2.weight")}
    for name, (dim, unit) in dead.items():
        values[name].select(dim, unit).zero_()
    values["conv2.weight"][:, 3] = 0
    for value in values.values():
        value.requires_grad_()
    scores = unit_scores(net, values=values)
    assert scores["conv1.out"][3] == 0
    sum(score.sum() for score in scores.values()).backward()
    for value in values.values():
        assert value.grad.isfinite().all()
    assert (values["conv2.weight"].grad[:, :3] != 0).all()
    other = unit_scores(net.replace({name: v.detach() for name, v in values.items()}))
    torch.testing.assert_close(other["conv1.out"], scores["conv1.out"].detach())


def test_bf16_is_summed_wide():
    case = make("cnn")
    half = case.net.replace({n: t.value.bfloat16() for n, t in case.net.tensors.items()})
    for axis, score in unit_scores(half).items():
        assert score.dtype == torch.float32
        torch.testing.assert_close(
            score.double(), unit_scores(case.net)[axis], rtol=5e-3, atol=1e-3
        )


def test_normalizations():
    scores = {"a": torch.tensor([1.0, 3.0]), "dead": torch.zeros(3), "empty": torch.zeros(0)}
    assert normalized(scores, "none")["a"].tolist() == [1, 3]
    assert normalized(scores, "mean")["a"].tolist() == [0.5, 1.5]
    assert normalized(scores, "max")["a"].tolist() == pytest.approx([1 / 3, 1])
    for how in ("none", "mean", "max"):
        assert normalized(scores, how)["dead"].tolist() == [0, 0, 0]
        assert normalized(scores, how)["empty"].numel() == 0
    with pytest.raises(ValueError, match="one of none, mean, max"):
        normalized(scores, "median")
    with pytest.raises(ValueError, match="one of l1, l2"):
        unit_scores(make("mlp").net, "l3")


def test_corrections_add_to_the_logarithm():
    scores = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([5.0])}
    result = corrected(scores, {"a": torch.tensor([0.0, 1.0])})
    assert result["a"].tolist() == pytest.approx([1.0, 2 * torch.e])
    assert result["b"].tolist() == [5.0]
    assert corrected(scores, {"a": torch.tensor(-1.0)})["a"].tolist() == pytest.approx(
        [1 / torch.e, 2 / torch.e]
    )
    with pytest.raises(ValueError, match='axis "c"'):
        corrected(scores, {"c": torch.tensor(0.0)})
    with pytest.raises(ValueError, match=r"expected shape \(\) or \(2,\)"):
        corrected(scores, {"a": torch.zeros(3)})


def test_corrections_reach_the_scores_of_a_network(cnn):
    shift = {"conv1.out": torch.tensor(2.0)}
    plain, moved = unit_scores(cnn.net), unit_scores(cnn.net, corrections=shift)
    torch.testing.assert_close(moved["conv1.out"], plain["conv1.out"] * torch.e**2)
    torch.testing.assert_close(moved["stem.out"], plain["stem.out"])


def test_units_and_positions_are_transposes(case):
    """⟨to_positions(u), p⟩ over the positions that involve the axis equals ⟨u, to_units(p)⟩."""
    generator = torch.Generator().manual_seed(0)
    for tensor in case.net.tensors.values():
        for dim, size in zip(tensor.dims, tensor.value.shape, strict=True):
            for name, axis in case.net.axes.items():
                units = torch.randn(axis.size, generator=generator, dtype=torch.float64)
                positions = torch.randn(size, generator=generator, dtype=torch.float64)
                spread = to_positions(units, dim, name, case.net.axes)
                involved = to_positions(torch.zeros_like(units), dim, name, case.net.axes) == 0
                left = (spread * positions)[involved].sum()
                right = (units * to_units(positions, dim, name, case.net.axes)).sum()
                torch.testing.assert_close(left, right)
                assert (spread[~involved] == 1).all()


def test_all_units_of_a_concatenation_are_those_of_each_axis():
    axes = {name: Axis(name, n) for name, n in (("a", 3), ("b", 2), ("c", 4))}
    inner = Sum((Atom("c"), Prod((Atom("a"), Fixed(2)))))
    dim = Sum((Atom("a"), Fixed(5), Prod((Atom("b"), Fixed(3))), Atom("a"), inner))
    values = torch.randn(27, generator=torch.Generator().manual_seed(0))
    found = to_all_units(values, dim, ("a", "c"), axes)
    assert set(found) == {"a", "c"}
    for name, units in found.items():
        torch.testing.assert_close(units, to_units(values, dim, name, axes))
