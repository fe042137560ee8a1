from __future__ import annotations

import pytest
import torch

from training import data
from training.data import Split


class TestRegistry:
    def test_all_are_registered(self):
        assert set(data.DATASETS) >= {"cifar10", "digits", "text"}

    def test_unknown_name_and_option(self):
        with pytest.raises(
            ValueError,
            match='unknown data set "mnist": expected one of cifar10, cifar100, digits, images, ',
        ):
            data.load("mnist")
        with pytest.raises(
            ValueError,
            match=r'^data\.colour: unknown setting "colour": expected one of augment, noise',
        ):
            data.load("digits", colour=True)

    def test_validation_must_leave_training_examples(self):
        split = Split(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64))
        with pytest.raises(ValueError, match="between 1 and 3"):
            data.hold_out(split, 4)
