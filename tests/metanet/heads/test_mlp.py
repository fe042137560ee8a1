"""A logit head decodes states one by one, and is silent before training."""

from __future__ import annotations

import pytest
import torch

import metanet


@pytest.mark.parametrize("name", list(metanet.LOGIT_HEADS))
def test_laws(name):
    head = metanet.LOGIT_HEADS.find(name)(hidden=8)
    states = torch.randn(5, 8)
    assert torch.equal(head(states), torch.zeros(5, 1))
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(head(states[order]), head(states)[order])
    torch.testing.assert_close(head(states[:1]), head(states)[:1])
