from __future__ import annotations

import pytest
import torch

from pruners import budgets
from pruners.budgets import RULES, allocate_masks, allowance, prunable_weights
from pruners.budgets.rules.erk import fill
from pruners.budgets.rules.lamp import lamp_scores
from tests.pruners.conftest import make

DENSITIES = [0.0, 0.01, 0.1, 0.35, 0.8, 0.999, 1.0]


def sizes_of(net):
    return {name: net.tensors[name].value.numel() for name in prunable_weights(net)}


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("rule", ["uniform", "erk", "lamp", "global"])
def test_every_rule_meets_the_budget_to_one_weight(case, rule, density):
    sizes = sizes_of(case.net)
    shares = allocate_masks(rule, case.net, density)
    assert list(shares) == list(sizes)
    assert all(0 <= share <= 1 for share in shares.values())
    kept = {name: share * sizes[name] for name, share in shares.items()}
    assert all(count == pytest.approx(round(count)) for count in kept.values())
    assert sum(map(round, kept.values())) == allowance(density, sum(sizes.values()))


@pytest.mark.parametrize("rule", ["uniform", "erk", "lamp", "global"])
def test_more_budget_never_takes_from_a_tensor(case, rule):
    before = dict.fromkeys(prunable_weights(case.net), 0.0)
    for density in DENSITIES:
        shares = allocate_masks(rule, case.net, density)
        assert all(shares[name] >= before[name] - 1e-12 for name in shares)
        before = shares


def test_biases_norms_and_embeddings_are_not_budgeted():
    names = prunable_weights(make("attention").net)
    assert names == ["q.weight", "k.weight", "v.weight", "o.weight", "out.weight"]
    assert prunable_weights(make("cnn").net) == [
        "stem.weight",
        "conv1.weight",
        "conv2.weight",
        "fc.weight",
    ]


def test_erk_is_proportional_where_it_is_not_full():
    net = make("cnn").net
    sizes = sizes_of(net)
    shares = allocate_masks("erk", net, 0.5)
    ratio = {
        name: share * sizes[name] / sum(net.tensors[name].value.shape)
        for name, share in shares.items()
        if share < 1
    }
    assert any(share == 1 for share in shares.values())
    assert max(ratio.values()) == pytest.approx(min(ratio.values()))
    for name, share in shares.items():
        if share == 1:
            assert sum(net.tensors[name].value.shape) * max(ratio.values()) >= sizes[name] * 0.999


@pytest.mark.parametrize("total", [0.0, 1.0, 7.5, 11.9, 12.0])
def test_fill_is_the_water_level(total):
    raw = torch.tensor([1.0, 5.0, 2.0, 0.5], dtype=torch.float64)
    capacity = torch.tensor([4.0, 2.0, 5.0, 1.0], dtype=torch.float64)
    filled = fill(raw, capacity, total)
    assert filled.sum().item() == pytest.approx(total)
    level = (filled / raw)[filled < capacity]
    assert (filled <= capacity).all()
    assert level.numel() == 0 or (level.max() - level.min() < 1e-12)


def test_lamp_scores_follow_the_definition():
    weight = torch.tensor([[0.5, -2.0], [1.0, 0.0]], dtype=torch.float64)
    squares = weight.square().flatten()
    naive = [(s / sum(t for t in squares if t >= s)).item() for s in squares]
    assert lamp_scores(weight).tolist() == pytest.approx(sorted(naive))
    assert (lamp_scores(torch.zeros(3)) == 0).all()
    assert lamp_scores(torch.randn(50))[-1] == 1


def test_lamp_never_empties_a_tensor_while_another_has_two():
    net = make("cnn").net
    scaled = net.replace({"conv1.weight": net.tensors["conv1.weight"].value * 1e-6})
    share = 4 / sum(sizes_of(net).values())
    kept = allocate_masks("lamp", scaled, share)
    assert all(kept[name] * size == pytest.approx(1) for name, size in sizes_of(net).items())
    assert allocate_masks("global", scaled, 0.5)["conv1.weight"] == 0


def test_global_is_one_threshold():
    net = make("attention").net
    shares = allocate_masks("global", net, 0.3)
    sizes = sizes_of(net)
    everything = torch.cat([net.tensors[n].value.abs().flatten() for n in sizes])
    threshold = everything.float().topk(int(0.3 * everything.numel())).values.min()
    for name, share in shares.items():
        kept = (net.tensors[name].value.abs().float() >= threshold).sum().item()
        assert kept == round(share * sizes[name])


def test_ties_are_served_in_order():
    net = make("mlp").net
    flat = net.replace({n: torch.ones_like(net.tensors[n].value) for n in prunable_weights(net)})
    assert allocate_masks("global", flat, 0.5) == {
        "0.weight": 1.0,
        "2.weight": pytest.approx(19 / 70),
        "4.weight": 0.0,
    }


@pytest.mark.parametrize("rule", ["uniform", "erk", "lamp"])
def test_corrections_move_shares_and_keep_the_budget(case, rule):
    sizes = sizes_of(case.net)
    names = list(sizes)
    plain = allocate_masks(rule, case.net, 0.4)
    same = allocate_masks(rule, case.net, 0.4, corrections={names[0]: torch.zeros(())})
    assert same == pytest.approx(plain, abs=2e-3)
    moved = allocate_masks(rule, case.net, 0.4, corrections={names[1]: torch.tensor(1.0)})
    assert moved[names[1]] > same[names[1]]
    assert all(moved[name] <= same[name] for name in names if name != names[1])
    total = sum(moved[name] * size for name, size in sizes.items())
    assert total == pytest.approx(allowance(0.4, sum(sizes.values())))


def test_bounds_hold_for_every_rule(case):
    sizes = sizes_of(case.net)
    for rule in ("uniform", "erk", "lamp", "global"):
        shares = allocate_masks(rule, case.net, 0.3, lower=0.1, upper=0.7)
        assert all(0.1 <= share <= 0.7 for share in shares.values())
        total = sum(shares[name] * size for name, size in sizes.items())
        assert total == pytest.approx(0.3 * sum(sizes.values()), abs=1)


def test_the_registry_is_complete_and_closed():
    assert {"uniform", "erk", "lamp", "global"} <= set(RULES)
    with pytest.raises(ValueError, match="already registered"):
        budgets.rule("erk", divides="masks")(lambda weights, density: {})
    net = make("mlp").net
    with pytest.raises(ValueError, match=r"expected one of .*erk"):
        allocate_masks("best", net, 0.5)
    with pytest.raises(ValueError, match=r"0 to 1 \(got 1.2\)"):
        allocate_masks("uniform", net, 1.2)
    with pytest.raises(ValueError, match="not among the budgeted weights"):
        allocate_masks("uniform", net, 0.5, corrections={"x": torch.zeros(())})
    with pytest.raises(ValueError, match="nothing to budget"):
        allocate_masks("uniform", net, 0.5, weights=[])
    with pytest.raises(ValueError, match='budget "price" needs the loss'):
        allocate_masks("price", net, 0.5)
    with pytest.raises(ValueError, match='"uniform" does not read "loss"'):
        allocate_masks("uniform", net, 0.5, loss=print)
    broken = net.replace({"2.weight": net.tensors["2.weight"].value * float("nan")})
    with pytest.raises(ValueError, match=r'"2\.weight" are not numbers'):
        allocate_masks("global", broken, 0.5)


def test_a_subset_of_weights_shares_its_own_budget(cnn):
    names = ["conv1.weight", "conv2.weight"]
    assert list(allocate_masks("erk", cnn.net, 0.5, weights=names)) == names
