from __future__ import annotations

import torch

from training.recovery.masked import masks_of


def test_masks_of_finds_the_zeros(network):
    with torch.no_grad():
        network[0].weight[2] = 0
    masks = masks_of(network)
    assert list(masks) == ["0.weight"]
    assert torch.equal(masks["0.weight"], network[0].weight != 0)
