"""Laws of the likelihood: what is drawn, what counts, and what is chosen."""

from __future__ import annotations

import warnings
from collections import UserDict
from math import inf

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from pruners.statistics import Imitation, Likelihood
from pruners.statistics import likelihood as room
from tests.pruners.networks import randomized
from tests.pruners.statistics.curved import WIDE, found, network, numbers, seq


def test_a_draw_has_the_covariance_of_labels_and_sums_to_nothing():
    scores, all_ = numbers(1, 5) * 2, torch.ones(1, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    draws = torch.cat([room.direction(scores, all_, 1.0, [generator]) for _ in range(20000)])
    p = scores[0].softmax(-1)
    torch.testing.assert_close(
        draws.T @ draws / len(draws), p.diag() - torch.outer(p, p), rtol=0, atol=0.01
    )
    assert draws.sum(1).abs().max() < 1e-12


def test_a_single_score_counts_by_its_square():
    model = seq(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x = numbers(5, 3)
    got = found(model, [x], likelihood=Likelihood(1.0, 4000), dtype=WIDE)
    torch.testing.assert_close(got["2.weight"], torch.ones(1, dtype=WIDE), rtol=0.1, atol=0)


def test_a_single_example_without_a_batch_is_one_prediction():
    model, x = network("in place")
    got, expected = found(model, [x[0]]), found(model, [x[:1]])
    assert got["0.weight"].shape == expected["0.weight"].shape
    assert got["2.weight"].count_nonzero() == expected["2.weight"].count_nonzero()


def test_one_number_for_every_example_is_a_prediction_of_its_own():
    column = seq(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    flat, x = seq(*column, nn.Flatten(0)), numbers(5, 3)
    expected = found(column, [x], dtype=WIDE)
    for batches in ([x], list(x.split(2))):
        got = found(flat, batches, dtype=WIDE)
        for name, value in expected.items():
            torch.testing.assert_close(got[name], value)


def test_an_empty_batch_adds_nothing():
    model, x = seq(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(), numbers(5, 3)
    got, expected = found(model, [x[:0], x], dtype=WIDE), found(model, [x], dtype=WIDE)
    assert all(torch.equal(got[name], value) for name, value in expected.items())


def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        num_hidden_layers=2,
        hidden_size=8,
        intermediate_size=12,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=11,
    )
    return randomized(LlamaForCausalLM(config).double())


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mapping", [dict, UserDict])
def test_padding_counts_for_nothing(side, mapping):
    model, ids = llama(), torch.randint(1, 11, (3, 6))
    lengths = (6, 4, 1)
    alone = [mapping(input_ids=row[None, :n]) for row, n in zip(ids, lengths, strict=True)]
    places = torch.arange(6) >= torch.tensor([[6 - n] for n in lengths])
    mask = places if side == "left" else places.flip(1)
    padded = torch.zeros(3, 6, dtype=torch.int64)
    for row, here, n in zip(range(3), mask, lengths, strict=True):
        padded[row, here] = ids[row, :n]
    batch = mapping(input_ids=padded, attention_mask=mask.long())
    # The mask is a part of what draws are seeded by.
    for one, n in zip(alone, lengths, strict=True):
        one["attention_mask"] = torch.ones(1, n, dtype=torch.int64)
    ours, expected = found(model, [batch], dtype=WIDE), found(model, alone, dtype=WIDE)
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value)


def test_the_scale_of_a_loss_and_its_reduction_change_no_budget():
    """All of G is multiplied alike."""
    model, x = network("convolutions")
    y = torch.tensor([0, 2, 1])

    def loss(reduction, factor=1.0):
        def of(model, batch):
            return factor * functional.cross_entropy(model(batch[0]), batch[1], reduction=reduction)

        return Likelihood(loss_fn=of)

    summed = found(model, [(x, y)], likelihood=loss("sum"), dtype=WIDE)
    for other, scale in ((loss("mean"), 9.0), (loss("sum", 5.0), 1 / 25)):
        for name, value in found(model, [(x, y)], likelihood=other, dtype=WIDE).items():
            torch.testing.assert_close(value * scale, summed[name])


def test_constants_added_to_scores_change_nothing_and_factors_are_temperatures():
    model, x = network("in place")
    ours = found(model, [x], dtype=WIDE)
    with torch.no_grad():
        model[2].bias += 3.0
    for name, value in found(model, [x], dtype=WIDE).items():
        torch.testing.assert_close(value, ours[name])
    with torch.no_grad():
        model[2].weight *= 2
        model[2].bias *= 2
    # The draw of the scaled scores at twice the temperature is that of the plain ones.
    scaled = found(model, [x], likelihood=Likelihood(2.0, 1), dtype=WIDE)
    torch.testing.assert_close(scaled["2.weight"], ours["2.weight"])
    torch.testing.assert_close(scaled["0.weight"], 4 * ours["0.weight"])


def test_few_sure_predictions_are_told_of_once():
    model = seq(nn.Linear(4, 3)).double()
    x = numbers(200, 4) * 1e4
    x[0] = 0
    with pytest.warns(UserWarning, match="few predictions carry the curvature") as caught:
        found(model, x.split(50), likelihood=Likelihood(temperature=1.0))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found(model, [x], likelihood=Likelihood())
        found(model, [x], likelihood=Likelihood(temperature=inf))


@pytest.mark.parametrize(
    ("factor", "temperature"), [(1.0, 2.0), (8.0, 4.0), (16.0, 8.0), (1e4, inf)]
)
def test_what_is_chosen_is_what_giving_it_gives(factor, temperature):
    """The surer a network is, the higher its temperature; few predictions have several draws."""
    model, x = network("in place")[0], numbers(40, 4)
    with torch.no_grad():
        model[2].weight *= factor
        model[2].bias *= factor
    expected = found(model, [x], likelihood=Likelihood(temperature, room.MOST), dtype=WIDE)
    for asked in (Likelihood(), Likelihood(draws=room.MOST), Likelihood(temperature)):
        for name, value in found(model, x.split(9), likelihood=asked, dtype=WIDE).items():
            torch.testing.assert_close(value, expected[name])


def test_a_share_of_the_predictions_carries_the_gradient():
    scores, counted = numbers(9, 5) * 4, torch.arange(9) != 3
    one = room.Carried()
    for rows in (slice(0, 4), slice(4, 9)):
        one.add(scores[rows], counted[rows], 2.0)
    weight = 1 - (scores[counted] / 2).softmax(-1).square().sum(-1)
    assert one.share == pytest.approx(float(weight.sum() ** 2 / (8 * weight.square().sum())))
    assert one.count == 8
    assert room.choice(Likelihood(), {1.0: room.Carried(4, 1.0, 1.0), 2.0: one})[0] == 2.0
    assert room.choice(Likelihood(), {1.0: room.Carried(), 2.0: room.Carried()})[0] == 2.0
    assert room.choice(Likelihood(draws=3), {1.0: room.Carried()}) == (1.0, 3)
    assert room.choice(Likelihood(), {1.0: room.Carried(room.ENOUGH)})[1] == 1
    assert room.choice(Likelihood(), {1.0: room.Carried(room.ENOUGH // 2)})[1] == 2


class Maps(nn.Module):
    """Classes of every place, along dimension 1 or the last."""

    def __init__(self, classes: int, space: int, *, last: bool) -> None:
        super().__init__()
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[space]
        self.a, self.b, self.last = conv(3, 4, 3, padding=1), conv(4, classes, 1), last

    def forward(self, x):
        found = self.b(self.a(x).tanh())
        return found.movedim(1, -1) if self.last else found


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("size", [(4, 6), (4, 4), (3, 4, 6)])
def test_maps_of_classes_are_read_alike_wherever_the_classes_lie(classes, size):
    first, last = (
        randomized(Maps(classes, len(size), last=last).double()) for last in (False, True)
    )
    last.load_state_dict(first.state_dict())
    x = numbers(2, 3, *size)
    one, other = (found(model, [x], dtype=WIDE) for model in (first, last))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value)
    batch, pruned = (x,), {"b.weight": first.b.weight * 0.5}
    values = [Imitation(model, [batch]).value(pruned) for model in (first, last)]
    assert values[0] == pytest.approx(values[1])
    for model in (first, last):
        scores, counted = room.scores_of(model(x), batch)
        assert scores.shape == (2, *size, classes)
        assert counted.shape == (2, *size)
    assert values[0] == 0 if classes == 1 else values[0] > 0


@pytest.mark.parametrize(
    ("shape", "batch", "along"),
    [
        ((2, 5), numbers(2, 3, 8, 8), -1),
        ((2, 7, 5), numbers(2, 7, 4), -1),
        ((2, 5, 2, 2), numbers(2, 3, 8, 8), 1),  # coarser maps
        ((2, 8, 8, 8), numbers(2, 3, 8, 8), 1),  # nothing tells: as cross_entropy has it
        ((2, 8, 6, 5), numbers(2, 8, 6, 3), -1),  # channels last throughout
        ((2, 7, 4, 11), {"input_ids": torch.ones(2, 7, dtype=torch.int64)}, -1),  # several heads
        ((2, 5, 8, 8), {"pixel_values": numbers(2, 3, 8, 8)}, 1),
    ],
)
def test_where_classes_lie(shape, batch, along):
    assert room.class_dimension(torch.zeros(shape), batch) == along
