from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs.cost import count_macs
from pruners import Target, UnreachableTargetError, measure
from pruners.units import select, unit_scores
from pruners.units.select import floors
from tests.pruners.conftest import make, removed

CASES = {name: make(name) for name in ("mlp", "cnn", "attention")}
METRICS = {
    "macs": lambda share: f"{100 * share}%",
    "params": lambda share: f"{100 * share}%",
    "size_mb": lambda share: f"{100 * share}%",
    "units": lambda share: f"{100 * share}%",
    "speedup": lambda share: 1 / share,
    "sparsity": lambda share: 1 - share,
}


def sizes_of(kept):
    return {axis: indices.numel() for axis, indices in kept.items()}


def meets(net, target, sizes):
    return all(
        count(net, sizes) <= limit for count, limit in Target.parse(target).limits(net).items()
    )


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(CASES)),
    metric=st.sampled_from(sorted(METRICS)),
    share=st.floats(0.6, 1.0),
    scope=st.sampled_from(["global", "uniform"]),
    round_to=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 5),
)
def test_met_within_one_unit_and_by_score(name, metric, share, scope, round_to, seed):
    net = CASES[name].net
    generator = torch.Generator().manual_seed(seed)
    # Few different values, so that ties are the rule.
    scores = {
        axis: torch.randint(0, 6, score.shape, generator=generator).double()
        for axis, score in unit_scores(net).items()
    }
    target = {metric: METRICS[metric](share)}
    kept = select(net, scores, target, scope, min_units=1, round_to=round_to)
    sizes = sizes_of(kept)
    assert meets(net, target, sizes)
    for axis, indices in kept.items():
        gone = torch.tensor(sorted(set(range(net.axes[axis].size)) - set(indices.tolist())))
        assert indices.tolist() == sorted(indices.tolist())
        assert indices.numel() == net.axes[axis].size or indices.numel() % round_to == 0
        assert indices.numel() >= 1
        if gone.numel():
            assert scores[axis][gone.long()].max() <= scores[axis][indices].min()
    # Tight: some removed chunk was the last one; with it back, the target fails.
    back = []
    for axis, count in sizes.items():
        full = net.axes[axis].size
        if count < full:
            last = min(full, count + round_to)
            back.append(meets(net, target, sizes | {axis: last}))
    assert not back or not all(back)


def test_global_equals_the_slow_twin():
    """Remove the lowest score of the whole network, one unit at a time, until the target is met."""
    net = CASES["cnn"].net
    scores = unit_scores(net)
    limit = count_macs(net) * 0.4
    kept = {axis: set(range(score.numel())) for axis, score in scores.items()}
    while count_macs(net, {axis: len(units) for axis, units in kept.items()}) > limit:
        _, axis, unit = min(
            (scores[axis][unit].item(), axis, unit)
            for axis, units in kept.items()
            for unit in units
            if len(units) > 1
        )
        kept[axis].remove(unit)
    found = select(net, scores, {"macs": "40%"}, min_units=1)
    assert {axis: set(v.tolist()) for axis, v in found.items()} == kept


@pytest.mark.parametrize("share", [0.9, 0.6, 0.3])
def test_uniform_takes_the_same_share_of_every_axis(share):
    net = CASES["cnn"].net
    kept = select(net, unit_scores(net), {"params": f"{100 * share}%"}, "uniform", min_units=1)
    shares = [indices.numel() / net.axes[axis].size for axis, indices in kept.items()]
    smallest = min(net.axes[axis].size for axis in kept)
    assert max(shares) - min(shares) <= 1 / smallest


def test_a_share_of_the_units_is_a_pruning_ratio(cnn):
    scores = unit_scores(cnn.net)
    kept = select(cnn.net, scores, {"units": "50%"}, min_units=1)
    together = torch.cat(list(scores.values()))
    best = together.topk(together.numel() // 2).values.min()
    assert sum(map(len, kept.values())) == together.numel() // 2
    for axis, score in scores.items():
        assert torch.equal(kept[axis], (score >= best).nonzero().flatten())


def test_the_binding_condition_decides():
    net = CASES["cnn"].net
    scores = unit_scores(net)
    alone = select(net, scores, {"macs": "40%"})
    loose = select(net, scores, {"params": "95%"})
    both = select(net, scores, {"params": "95%", "macs": "40%"})
    assert sizes_of(both) == sizes_of(alone) != sizes_of(loose)


def test_only_scored_axes_are_pruned_and_the_model_runs(cnn):
    scores = unit_scores(cnn.net)
    del scores["stem.out"]
    kept = select(cnn.net, scores, {"speedup": 1.5})
    assert set(kept) == {"conv1.out"}
    small = cnn.net.remove(removed(cnn.net, kept))
    assert small.to_model()(*cnn.inputs).shape == (4, 5)
    assert count_macs(cnn.net) / count_macs(small) >= 1.5
    assert measure(cnn.net, sizes_of(kept))["macs"] == count_macs(small)


def test_a_target_that_is_already_met_keeps_everything(cnn):
    kept = select(cnn.net, unit_scores(cnn.net), {"macs": "100%"})
    assert sizes_of(kept) == {axis: cnn.net.axes[axis].size for axis in kept}


@pytest.mark.parametrize(
    ("min_units", "expected"), [(3, 3), (0.5, {"conv1.out": 6, "stem.out": 4}), (0, 1), (0.0, 1)]
)
def test_no_axis_falls_below_its_floor(cnn, min_units, expected):
    scores = unit_scores(cnn.net)
    least_of = {a: expected if isinstance(expected, int) else expected[a] for a in scores}
    least = count_macs(cnn.net, least_of)
    kept = select(cnn.net, scores, {"macs": least}, min_units=min_units)
    assert sizes_of(kept) == least_of
    with pytest.raises(UnreachableTargetError, match=f"between {least:,}"):
        select(cnn.net, scores, {"macs": least - 1}, min_units=min_units)


def test_floors_by_axis_and_on_the_grid(cnn):
    scores = unit_scores(cnn.net)
    least = count_macs(cnn.net, {"conv1.out": 8, "stem.out": 4})
    kept = select(cnn.net, scores, {"macs": least}, min_units={"conv1.out": 5}, round_to=4)
    assert sizes_of(kept) == {"conv1.out": 8, "stem.out": 4}


@pytest.mark.parametrize("round_to", [1, 4])
@pytest.mark.parametrize("min_units", [0.05, 0.4, 5, {"stem.out": 6}, {"stem.out": 0.9}])
def test_floors_can_be_said_before_anything_is_cut(cnn, min_units, round_to):
    """They are what the harshest target leaves, and mean the same when given as numbers."""
    scores = {axis: torch.rand(cnn.net.axes[axis].size) for axis in ("stem.out", "conv1.out")}
    least = floors(cnn.net, scores, min_units, round_to)
    count = sum(least.values())
    kept = select(cnn.net, scores, {"units": count}, "global", min_units, round_to)
    assert {axis: len(index) for axis, index in kept.items()} == least
    assert floors(cnn.net, scores, least, round_to) == least
    with pytest.raises(UnreachableTargetError):
        select(cnn.net, scores, {"units": count - 1}, "global", least, round_to)


def test_nothing_to_prune_is_out_of_reach(cnn):
    with pytest.raises(UnreachableTargetError, match="speedup between 1 and 1"):
        select(cnn.net, {}, {"speedup": 1.2})
    assert select(cnn.net, {}, {"speedup": 1}) == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": {"nowhere": torch.ones(3)}}, "does not have"),
        ({"scores": {"fc.out": torch.ones(5)}}, "cannot be pruned"),
        ({"scores": {"conv1.out": torch.ones(3)}}, r"expected shape \(12,\)"),
        ({"scores": {"conv1.out": torch.full((12,), float("nan"))}}, "NaN"),
        ({"scope": "local"}, "one of global, uniform"),
        ({"round_to": 0}, "at least 1"),
        ({"min_units": 1.5}, "share from 0 to 1"),
        ({"min_units": -1}, "share from 0 to 1"),
    ],
)
def test_bad_input_is_refused(cnn, change, words):
    arguments = {"scores": unit_scores(cnn.net), "target": {"macs": "50%"}} | change
    with pytest.raises(ValueError, match=words):
        select(cnn.net, **arguments)


def test_equal_scores_are_cut_the_same_way_every_time(cnn):
    scores = {axis: torch.ones_like(score) for axis, score in unit_scores(cnn.net).items()}
    kept = select(cnn.net, scores, {"macs": "60%"})
    for indices in kept.values():
        assert indices.tolist() == list(range(indices.numel()))
