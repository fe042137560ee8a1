from __future__ import annotations

import pytest

from graphs.cost import count_macs, count_params
from pruners import Target, UnreachableTargetError, measure
from pruners.targets import count_bytes, count_units
from tests.pruners.conftest import make


@pytest.mark.parametrize(
    "asked",
    [
        {"macs": "50%"},
        {"macs": 123456},
        {"params": 6000000},
        {"speedup": 2.5},
        {"sparsity": 0.5},
        {"size_mb": 12.5, "speedup": 1.5},
        {"params": "33.3%"},
        {"units": "50%", "macs": "60%"},
    ],
)
def test_asked_is_read_back(asked):
    target = Target.parse(asked)
    assert target.asked == asked
    assert Target.parse(target.asked) == target == Target.parse(target)
    assert hash(target) == hash(Target.parse(asked))


def test_a_share_of_sparsity_is_the_number():
    assert Target.parse({"sparsity": "70%"}) == Target.parse({"sparsity": 0.7})
    assert Target.parse({"params": 6e6}).asked == {"params": 6000000}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "at least one of macs"),
        ("50%", "mapping"),
        ({"flops": 3}, 'unknown target "flops"'),
        ({"latency": "60%"}, "ask for macs or speedup"),
        ({"macs": 0.5}, r'such as "macs": "50%"'),
        ({"macs": True}, "number or a percentage"),
        ({"macs": "half"}, "number or a percentage"),
        ({"params": "120%"}, "up to 100"),
        ({"speedup": 0.5}, "at least 1"),
        ({"speedup": "50%"}, "speed-up is dense MACs"),
        ({"speedup": float("inf")}, "does not make sense"),
        ({"sparsity": 1.0}, "below 1"),
        ({"sparsity": -0.1}, "from 0"),
        ({"size_mb": 0}, "positive"),
        ({"size_mb": float("nan")}, "does not make sense"),
    ],
)
def test_nonsense_is_refused_with_a_remedy(asked, words):
    with pytest.raises(ValueError, match=words):
        Target.parse(asked)


def test_measure_agrees_with_the_pruned_model(cnn):
    sizes = {"stem.out": 5, "conv1.out": 3}
    small = cnn.net.remove({"stem.out": [0, 2, 4], "conv1.out": list(range(9))})
    model = small.to_model()
    found = measure(cnn.net, sizes)
    assert found["params"] == sum(p.numel() for p in model.parameters()) == count_params(small)
    assert found["macs"] == count_macs(small)
    stored = [*model.parameters(), *model.buffers()]
    assert found["size_mb"] * 1e6 == sum(t.numel() * t.element_size() for t in stored)
    assert found["speedup"] == count_macs(cnn.net) / count_macs(small)
    assert found["units"] == sum(sizes.values()) == count_units(small)
    assert found["sparsity"] == pytest.approx(1 - count_params(small) / count_params(cnn.net))


def test_measure_of_the_dense_network(case):
    found = measure(case.net)
    assert found["speedup"] == 1.0
    assert found["sparsity"] == 0.0
    assert found["size_mb"] * 1e6 == count_bytes(case.net)


def test_reachable_range_is_that_of_the_smallest_network(cnn):
    floors = {"stem.out": 2, "conv1.out": 3}
    low, high = Target.parse({"macs": "50%"}).reachable(cnn.net, floors)["macs"]
    assert (low, high) == (count_macs(cnn.net, floors), count_macs(cnn.net))
    slow, fast = Target.parse({"speedup": 2}).reachable(cnn.net, floors)["speedup"]
    assert (slow, fast) == (1.0, high / low)
    single = Target.parse({"params": 1}).reachable(cnn.net)["params"]
    assert single[0] == count_params(cnn.net, {"stem.out": 1, "conv1.out": 1})


def test_head_features_are_no_units_that_may_go():
    net = make("attention").net
    free = [a for a in net.axes.values() if a.frozen is None]
    assert {a.kind for a in free} > {"head feature"}
    assert count_units(net) == sum(a.size for a in free if a.kind != "head feature")


def test_in_counts_means_the_same_for_a_smaller_network(cnn):
    target = Target.parse({"units": "50%", "size_mb": "60%", "speedup": 2.0, "params": 999})
    small = cnn.net.remove("stem.out", [0])
    assert target.in_counts(cnn.net).limits(small) == target.limits(cnn.net)


def test_in_amounts_keeps_words_and_leaves_no_shares(cnn):
    target = Target.parse({"units": "50%", "size_mb": "60%", "speedup": 2.0, "sparsity": 0.5})
    amounts = target.in_amounts(cnn.net)
    assert [c.metric for c in amounts.conditions] == [c.metric for c in target.conditions]
    assert not any(c.share for c in amounts.conditions)
    assert amounts.limits(cnn.net) == target.limits(cnn.net)
    assert Target.parse(amounts.asked) == amounts


def test_out_of_reach_names_the_range(cnn):
    floors = {"stem.out": 2, "conv1.out": 3}
    fastest = count_macs(cnn.net) / count_macs(cnn.net, floors)
    Target.parse({"speedup": fastest * 0.999}).check(cnn.net, floors)
    with pytest.raises(UnreachableTargetError, match=f"between 1 and {fastest:,.4g}"):
        Target.parse({"speedup": fastest * 1.001}).check(cnn.net, floors)


def test_density_counts_named_weights_for_sparsity_and_everything_for_params(cnn):
    names = ["conv1.weight", "conv2.weight"]
    prunable = sum(cnn.net.tensors[name].value.numel() for name in names)
    total = count_params(cnn.net)
    assert Target.parse({"sparsity": 0.75}).density(cnn.net, names) == 0.25
    half = Target.parse({"params": total - prunable // 2}).density(cnn.net, names)
    assert half * prunable == pytest.approx(prunable / 2)
    assert Target.parse({"sparsity": 0.1, "params": total}).density(cnn.net, names) == 0.9
    with pytest.raises(UnreachableTargetError, match=f"{total - prunable:,} only"):
        Target.parse({"params": 10}).density(cnn.net, names)
    with pytest.raises(ValueError, match='prune "channels"'):
        Target.parse({"macs": "50%"}).density(cnn.net, names)
    with pytest.raises(ValueError, match="no weights"):
        Target.parse({"sparsity": 0.5}).density(cnn.net, [])


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "asked",
    [
        {"macs": "40%"},
        {"params": "30%", "macs": "90%"},
        {"size_mb": 0.008, "units": "60%"},
        {"speedup": 3.0},
        {"sparsity": 0.8},
        {"macs": "100%"},
    ],
    ids=str,
)
def test_steps_on_the_way_have_equal_ratios_and_end_at_the_target(cnn, asked, steps):
    target = Target.parse(asked)
    end = target.limits(cnn.net)
    before = {count: float(count(cnn.net)) for count in end}
    for step in range(1, steps + 1):
        milder = target.on_the_way(cnn.net, step / steps)
        limits = milder.limits(cnn.net)
        assert set(limits) == set(end)
        for count, limit in limits.items():
            ratio = min(1.0, end[count] / count(cnn.net)) ** (1 / steps)
            assert limit == pytest.approx(max(before[count] * ratio, end[count]), rel=1e-9)
        before = limits
        # In absolute amounts: it means the same for a network that is smaller already.
        smaller = cnn.net.remove({"conv1.out": [0, 1, 2]})
        assert milder.limits(smaller) == pytest.approx(limits)
    assert before == pytest.approx(end)


def test_a_limit_above_the_dense_network_stays_where_it_is(cnn):
    looser = Target.parse({"macs": 10 * count_macs(cnn.net), "params": "50%"})
    for progress in (0.25, 1.0):
        limits = looser.on_the_way(cnn.net, progress).limits(cnn.net)
        assert limits[count_macs] == 10 * count_macs(cnn.net)
        expected = 0.5**progress * count_params(cnn.net)
        assert limits[count_params] == pytest.approx(expected)
