from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from training.networks.residual import PadShortcut, cifar_resnet


@pytest.mark.parametrize(("depth", "count"), [(20, 269_722), (32, 464_154), (56, 853_018)])
def test_cifar_resnets_have_the_published_sizes(depth, count):
    model = cifar_resnet(depth)
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_pad_shortcut_is_option_a():
    x = torch.randn(2, 16, 8, 8)
    expected = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8), "constant", 0)
    assert torch.equal(PadShortcut(16, 32, 2)(x), expected)
    assert PadShortcut(4, 7, 2)(x[:, :4]).shape == (2, 7, 4, 4)


def test_depths_that_do_not_exist():
    with pytest.raises(ValueError, match=r"depth must be 6 n \+ 2 .*got 18"):
        cifar_resnet(18)
