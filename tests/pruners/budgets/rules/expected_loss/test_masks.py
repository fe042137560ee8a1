"""Shares of masks by expected loss: as good as any, and nothing that does not matter matters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphs import trace
from pruners import budgets
from pruners.budgets.rules.expected_loss import masks as rule
from pruners.curves import ExpectedLoss, Prediction
from tests.pruners.budgets.rules.expected_loss.asks import deaf, masks, of_labels, whole
from tests.pruners.conftest import make
from tests.pruners.curves.test_axes import relabelled, rescaled, subject
from tests.pruners.curves.test_expected import SPLITS
from tests.pruners.networks import randomized


@pytest.mark.parametrize(
    ("split", "rounds"), [*((split, 1) for split in SPLITS), ("uneven", 2), ("shuffled", 2)]
)
def test_shares_do_not_change_with_batches_and_their_order(split, rounds):
    """But for a weight that rounding moves."""
    case = make("cnn")
    x = torch.randn(24, 3, 6, 6, dtype=torch.float64)
    one, _ = masks(case.net, [x], rounds=rounds)
    two, _ = masks(case.net, SPLITS[split](x), rounds=rounds)
    assert whole(case.net, one) == pytest.approx(whole(case.net, two), abs=rounds)


@pytest.mark.parametrize("rounds", [1, 2])
def test_shares_do_not_change_with_the_scale_and_reduction_of_a_loss(rounds):
    case = make("cnn")
    batches = list(torch.randn(24, 3, 6, 6, dtype=torch.float64).split(8))

    one, two, three = (
        masks(case.net, batches, likelihood=of_labels(*how), rounds=rounds)[0]
        for how in (("mean", 1.0), ("sum", 1.0), ("mean", 64.0))
    )
    assert whole(case.net, one) == pytest.approx(whole(case.net, two), abs=1)
    assert whole(case.net, one) == pytest.approx(whole(case.net, three), abs=1)


@pytest.mark.parametrize("name", ["padded", "heads", "cnn", "mlp"])
def test_shares_do_not_change_with_the_labels_of_units(name):
    """But for a few weights: in which order alternating steps round is up to the labels."""
    _, net, other, _, x = relabelled(name)
    one, two = (whole(n, masks(n, [x], rounds=1)[0]) for n in (net, other))
    assert one == pytest.approx(two, rel=0.01, abs=4)


@pytest.mark.parametrize(("factor", "rounds"), [(1e-3, 1), (0.3, 2), (50.0, 1)])
def test_shares_do_not_change_where_units_are_rescaled(factor, rounds):
    net, other, x = rescaled(factor)
    one, two = (whole(n, masks(n, [x], rounds=rounds)[0]) for n in (net, other))
    assert one == pytest.approx(two, abs=1)


@pytest.mark.parametrize("pattern", ["unstructured", "row", "2:4"])
def test_the_same_input_gives_the_same_shares(pattern):
    torch.manual_seed(0)
    layers = [nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4)]
    model = randomized(nn.Sequential(*layers).double())
    x = torch.randn(60, 8, dtype=torch.float64)
    net = trace(model, (x[:3],))
    one, two = (masks(net, [x], pattern=pattern)[0] for _ in range(2))
    assert one == two
    kept = whole(net, one)
    total = sum(net.tensors[name].value.numel() for name in kept)
    assert kept == {name: int(n) for name, n in kept.items()}
    assert sum(kept.values()) <= total / 2
    if pattern == "2:4":
        assert all((4 * share).is_integer() and share >= 0.25 for share in one.values())
        assert sum(kept.values()) >= total / 2 - max(kept.values())


@pytest.mark.parametrize("pattern", ["unstructured", "row"])
def test_no_other_rule_is_expected_to_lose_less(pattern):
    for name in ("cnn", "mlp", "heads"):
        _, net, x = subject(name)
        shares, expected = masks(net, [x], pattern=pattern, rounds=1)
        curves = expected.prediction.curves
        ours = Prediction(curves, shares).total
        for other in ("uniform", "erk", "lamp", "global"):
            theirs = budgets.allocate_masks(other, net, 0.5, pattern=pattern)
            assert ours <= Prediction(curves, theirs).total * 1.02


def test_weights_that_nothing_measures_keep_the_common_share():
    _, net, x = subject("cnn")
    weights = budgets.prunable_weights(net)
    expected = ExpectedLoss(net, [x], [n for n in weights if n != "conv2.weight"])
    shares = budgets.allocate_masks("expected-loss", net, 0.4, expected=expected, rounds=1)
    assert shares["conv2.weight"] == pytest.approx(0.4, abs=1 / 800)
    total = sum(net.tensors[n].value.numel() for n in weights)
    assert sum(whole(net, shares).values()) == budgets.allowance(0.4, total)


def test_a_second_round_looks_at_the_masked_network():
    _, net, x = subject("cnn")
    one, first = masks(net, [x], 0.2, rounds=1)
    two, second = masks(net, [x], 0.2)
    assert masks(net, [x], 0.2, rounds=2)[0] == two
    assert one != two
    assert first.prediction.curves != second.prediction.curves
    for found in (first, second):
        kept = sum(
            found.prediction.kept[n] * net.tensors[n].value.numel() for n in found.prediction.kept
        )
        everything = sum(net.tensors[n].value.numel() for n in found.prediction.kept)
        assert kept == pytest.approx(0.2 * everything)


def test_large_networks_have_quick_curves_and_one_round(monkeypatch):
    _, net, x = subject("cnn")
    quick, _ = masks(net, [x], solver="sparsegpt", rounds=1)
    monkeypatch.setattr(rule, "SMALL", 10)
    assert masks(net, [x], solver="admm")[0] == quick


def test_solvers_that_read_gradients_are_budgeted_too():
    _, net, x = subject("mlp")
    assert masks(net, [x], solver="gradient-aware")[0] == masks(net, [x], solver="sparsegpt")[0]


@pytest.mark.parametrize("rounds", [0, -1, 1.5, "2", True])
def test_rounds_that_make_no_sense_are_refused(rounds):
    _, net, x = subject("mlp")
    with pytest.raises(ValueError, match=rf"rounds .* \(got {rounds!r}\)"):
        masks(net, [x], rounds=rounds)


@pytest.mark.parametrize("how", ["scores", "labels"])
def test_shares_are_divided_where_gradients_are_blocked(how):
    net, x = deaf(how)
    shares, _ = masks(net, [x])
    assert sum(whole(net, shares).values()) == 72


def test_evaluations_find_shares_on_the_budget_that_are_no_worse_where_they_are_judged():
    _, net, x = subject("cnn")
    shares, expected = masks(net, list(x.split(3)), rounds=1, evaluations=5)
    sizes = {name: net.tensors[name].value.numel() for name in shares}
    assert sum(whole(net, shares).values()) == int(0.5 * sum(sizes.values()))
    assert 1 < len(expected.candidates) <= 5
    assert set(expected.tried) == {"shares of least expected loss", "the best of a surrogate"}
    again, _ = masks(net, list(x.split(3)), rounds=1, evaluations=5)
    assert again == shares


@pytest.mark.parametrize("pattern", ["unstructured", "row"])
def test_evaluations_leave_weights_that_nothing_measures_at_the_common_share(pattern):
    _, net, x = subject("cnn")
    x = torch.cat([x] * (256 // len(x) + 1))
    measured = [name for name in budgets.prunable_weights(net) if name != "conv2.weight"]
    expected = ExpectedLoss(net, [x], measured)
    shares = budgets.allocate_masks(
        "expected-loss", net, 0.4, expected=expected, rounds=1, evaluations=4, pattern=pattern
    )
    assert shares["conv2.weight"] == pytest.approx(0.4, abs=1 / 8)
    assert len(expected.candidates) == 4
    assert all("conv2.weight" not in one["kept"] for one in expected.candidates)


def test_evaluations_that_nothing_measured_could_guide_are_refused():
    class Unmeasured(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 8, dtype=torch.float64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.einsum("oi,bi->bo", self.weight, x)

    x = torch.randn(256, 8, dtype=torch.float64)
    net = trace(Unmeasured(), (x[:3],))
    with pytest.raises(ValueError, match="evaluations have nothing to divide"):
        budgets.allocate_masks(
            "expected-loss", net, 0.5, expected=ExpectedLoss(net, [x]), evaluations=2
        )


def test_evaluations_move_the_groups_of_n_of_m_too():
    torch.manual_seed(0)
    layers = [nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4)]
    x = torch.randn(512, 8, dtype=torch.float64)
    net = trace(randomized(nn.Sequential(*layers).double()), (x[:3],))
    _, expected = masks(net, [x], pattern="2:4", rounds=1, evaluations=6)
    assert len({tuple(one["kept"].items()) for one in expected.candidates}) > 2
