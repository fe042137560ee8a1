"""Trials: what is judged was not measured, and a judge finds nothing to object to the dense one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pruners.curves.trial import Judge, cut_and_refitted, left_out, without
from pruners.statistics import NoCurvatureError
from tests.pruners.conftest import make
from tests.pruners.recovery.test_refit import CONSUMERS, consumer, cut


def examples(batches):
    return [number for batch in batches for number in batch[0].flatten().tolist()]


@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=14))
def test_what_is_left_out_is_apart_and_nothing_is_lost(sizes):
    numbers = torch.arange(sum(sizes))
    batches = [(part,) for part in numbers.split(sizes)]
    measuring, judging = map(examples, left_out(batches))
    assert measuring
    assert not set(measuring) & set(judging)
    assert sorted(measuring + judging) == numbers.tolist()
    assert bool(judging) == (len(numbers) > 1)
    assert len(sizes) < 4 or [len(b[0]) for b in left_out(batches)[1]] == sizes[3::4]


def test_few_batches_are_cut_into_pieces():
    """A quarter judges, whether the examples come as one batch or as many."""
    whole = torch.arange(64)
    for batches in ([(whole,)], [(whole[:32],), (whole[32:],)], [(p,) for p in whole.split(1)]):
        measuring, judging = left_out(batches)
        assert (len(examples(measuring)), len(examples(judging))) == (48, 16)
    mappings = [{"x": whole, "mask": whole}]
    assert [set(batch) for batch in left_out(mappings)[1]] == [{"x", "mask"}] * 2


def test_the_dense_module_loses_nothing_and_is_left_alone(case):
    case.model.train()
    before = {name: value.clone() for name, value in case.model.state_dict().items()}
    judge = Judge(case.model, [case.inputs])
    assert judge(case.model) == 0.0
    assert case.model.training
    assert all(torch.equal(before[n], value) for n, value in case.model.state_dict().items())
    assert all(p.grad is None for p in case.model.parameters())
    other = make("cnn", seed=1) if "stem.weight" in before else None
    if other is not None:
        assert judge(other.model) > 0


class Tagger(nn.Module):
    """Scores of every token, from its own embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Embedding(5, 3)

    def forward(self, tokens: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.scores(tokens)


def test_it_is_the_mean_divergence_of_what_is_no_padding():
    dense, pruned = Tagger().double(), Tagger().double()
    tokens = torch.tensor([[0, 1, 4], [2, 4, 4]])
    mask = (tokens != 4).long()
    p, q = (m.scores.weight[:3].log_softmax(-1) for m in (dense, pruned))
    expected = (p.exp() * (p - q)).sum(-1).mean().item()
    batch = {"tokens": tokens, "attention_mask": mask}
    assert Judge(dense, [batch])(pruned) == pytest.approx(expected)
    assert Judge(dense, [batch]).predictions == 3
    rows = [{key: value[i : i + 1] for key, value in batch.items()} for i in range(2)]
    assert Judge(dense, rows)(pruned) == pytest.approx(expected)
    nothing = {"tokens": tokens, "attention_mask": torch.zeros_like(mask)}
    assert Judge(dense, [nothing])(pruned) == 0.0


def test_single_scores_differ_by_half_their_square():
    """Shaped (examples, 1) or (examples,): a softmax of one score says nothing."""
    dense, pruned, x = (
        nn.Linear(4, 1).double(),
        nn.Linear(4, 1).double(),
        torch.randn(9, 4).double(),
    )
    expected = ((dense(x) - pruned(x)).square() / 2).mean().item()
    assert Judge(dense, [x])(pruned) == pytest.approx(expected)
    flat = [nn.Sequential(one, nn.Flatten(0)) for one in (dense, pruned)]
    judge = Judge(flat[0], list(x.split(2)))
    assert (judge.predictions, judge(flat[1])) == (9, pytest.approx(expected))


def test_outputs_that_are_no_scores_cannot_be_judged():
    class Label(nn.Module):
        def forward(self, x):
            return x.argmax(-1)

    with pytest.raises(NoCurvatureError, match="an output of scores"):
        Judge(Label(), [torch.randn(3, 4)])


@pytest.mark.parametrize("name", sorted(CONSUMERS))
def test_a_trial_builds_what_is_left_and_refits_it(name):
    model, net, x = consumer(name)
    kept = cut(net)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    small, pruned = cut_and_refitted(net, model, kept, [(x[:25],), (x[25:],)])
    for axis, index in kept.items():
        assert small.axes[axis].size == len(index)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    torch.testing.assert_close(small.to_model()(x), pruned(x))
    assert not pruned.training
    plain = net.remove({a: without(net.axes[a].size, i) for a, i in kept.items()}).to_model()
    dense = model.eval()(x)
    assert (pruned(x) - dense).square().sum() < (plain.eval()(x) - dense).square().sum()


def test_where_nothing_goes_nothing_is_done(case):
    kept = {a: torch.arange(x.size) for a, x in case.net.axes.items() if x.frozen is None}
    net, model = cut_and_refitted(case.net, case.model, kept, [case.inputs])
    assert net is case.net
    assert model is case.model


def test_without_is_the_complement():
    assert without(5, torch.tensor([3, 1])).tolist() == [0, 2, 4]
    assert without(2, torch.tensor([0, 1])).tolist() == []


@pytest.mark.parametrize("shape", [(6,), (5, 6), (5, 3, 6)])
def test_damages_of_examples_add_up_to_the_divergence(shape):
    """One example without a batch, a batch, and several predictions an example."""
    dense, pruned = nn.Linear(6, 4).double(), nn.Linear(6, 4).double()
    batch = torch.randn(shape, dtype=torch.float64)
    judge = Judge(dense, [(batch,)])
    sums, counts = judge.each(pruned)
    assert sums.shape == counts.shape == ((5,) if len(shape) > 1 else (1,))
    one, other = dense(batch).log_softmax(-1), pruned(batch).log_softmax(-1)
    wanted = (one.exp() * (one - other)).sum(-1).mean().detach()
    assert judge(pruned) == pytest.approx(float(wanted))
    assert float(sums.sum() / counts.sum()) == pytest.approx(float(wanted))
