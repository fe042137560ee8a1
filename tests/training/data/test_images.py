from __future__ import annotations

import numpy as np
import pytest
import torch

from training.data.images import CropFlip, Normalise


def crop_flip_slowly(images, augment, generator):
    """Shift and mirror image by image: the oracle of the one gather."""
    p, (count, height, width, _) = augment.padding, images.shape
    offsets = torch.randint(0, 2 * p + 1, (2, count, 1), generator=generator)
    mirrored = torch.rand((count, 1), generator=generator) < 0.5
    out = []
    for image, top, left, mirror in zip(images, *offsets, mirrored, strict=True):
        padded = np.pad(image.numpy(), ((p, p), (p, p), (0, 0)))
        part = padded[int(top) : int(top) + height, int(left) : int(left) + width]
        out.append(torch.from_numpy(part[:, ::-1].copy() if augment.flip and mirror else part))
    return torch.stack(out)


@pytest.mark.parametrize(("padding", "shape"), [(4, (9, 32, 32, 3)), (1, (5, 8, 6, 1))])
def test_crop_and_flip_equal_the_slow_twin(padding, shape):
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    augment = CropFlip(padding)
    fast = augment(images, torch.Generator().manual_seed(3))
    assert torch.equal(fast, crop_flip_slowly(images, augment, torch.Generator().manual_seed(3)))


def test_normalise_by_channel():
    images = torch.tensor([[[[0, 255]]]], dtype=torch.uint8)
    out = Normalise((0.5, 0.25), (0.5, 0.5))(images)
    assert out.shape == (1, 2, 1, 1)
    torch.testing.assert_close(out.flatten(), torch.tensor([-1.0, 1.5]))
