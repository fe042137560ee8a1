"""The value network: the sum of expected losses at first, and blind to names, order and scale."""

from __future__ import annotations

import pytest
import torch

import metanet
from metanet import ValueNetwork

AXES, FACTS, BUDGETS = 5, 7, 6


def told(seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    reads = torch.triu(draw(AXES, AXES) < 0.5, 1)
    stays = draw(BUDGETS, AXES).clamp_min(0.1)
    kept = torch.stack([(stays * 16).ceil(), stays])
    return draw(AXES, FACTS), reads, 0.4, draw(BUDGETS, AXES), kept, draw(2, BUDGETS, AXES)


def trained(seed=0, members=3):
    """A network with any parameters at all."""
    network = ValueNetwork(facts=FACTS, members=members)
    generator = torch.Generator().manual_seed(seed)
    network.standardise(torch.randn(40, FACTS, generator=generator, dtype=torch.float64))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return network


def test_at_first_it_is_the_sum_of_expected_losses():
    given = told()
    found = ValueNetwork(facts=FACTS, members=2)(*given)
    assert found.shape == (2, BUDGETS)
    assert torch.allclose(found, given[3].sum(1).log().expand(2, -1))


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_axes_does_not_matter(seed):
    network = trained(seed)
    table, reads, share, losses, kept, errors = told(seed)
    order = torch.randperm(AXES, generator=torch.Generator().manual_seed(seed))
    other = network(
        table[order], reads[order][:, order], share, losses[:, order], kept[..., order],
        errors[..., order],
    )  # fmt: skip
    assert torch.allclose(other, network(table, reads, share, losses, kept, errors))


def test_budgets_are_valued_one_by_one():
    network, given = trained(), told()
    whole = network(*given)
    for i in range(BUDGETS):
        one = network(
            *given[:3], given[3][i : i + 1], given[4][:, i : i + 1], given[5][:, i : i + 1]
        )
        assert torch.allclose(one[:, 0], whole[:, i])


def test_what_feeds_and_what_reads_an_axis_counts_and_what_is_far_does_not():
    """A chain of five: a fact of the first axis reaches the second, and no other."""
    network = trained()
    table, _, share, _, kept, errors = told()
    chain = torch.diag(torch.ones(AXES - 1), 1).bool()
    changed = table.clone()
    changed[0] += 1

    def each(facts):
        """Of budgets in which one axis alone loses anything."""
        alone = torch.full((AXES, AXES), 1e-30, dtype=torch.float64)
        alone.fill_diagonal_(1.0)
        same = kept[:, :1].expand(-1, AXES, -1), errors[:, :1].expand(-1, AXES, -1)
        return network(facts, chain, share, alone, *same)

    moved = (each(table) - each(changed)).abs().amax(0) > 1e-9
    assert moved.tolist() == [True, True, False, False, False]


def test_facts_beyond_all_that_is_known_say_no_more_than_the_strangest():
    network = trained()
    table, *rest = told()
    far, farther = (network(table + 1e3 * times, *rest) for times in (1, 100))
    assert torch.equal(far, farther)


def test_saved_and_loaded_it_says_the_same(tmp_path):
    network = trained()
    metanet.save(network, tmp_path / "value.safetensors")
    again = metanet.load(tmp_path / "value.safetensors")
    assert isinstance(again, ValueNetwork)
    assert torch.equal(again(*told()), network(*told()))
