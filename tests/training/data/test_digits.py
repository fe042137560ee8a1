from __future__ import annotations

import torch

from tests.training.data.conftest import rows
from training import data


class TestDigits:
    def test_sizes_and_shapes(self):
        loaded = data.load("digits")
        assert [len(s) for s in (loaded.train, loaded.validation, loaded.test)] == [1000, 350, 447]
        inputs, targets = loaded.train.batch(torch.arange(5))
        assert inputs.shape == (5, *loaded.shape)
        assert inputs.dtype == torch.float32
        assert targets.shape == (5,)
        assert abs(float(loaded.train.batch(torch.arange(1000))[0].mean())) < 0.05

    def test_splits_are_disjoint_and_test_does_not_depend_on_the_seed(self):
        first, second = data.load("digits"), data.load("digits", seed=1)
        assert torch.equal(first.test.inputs, second.test.inputs)
        assert not torch.equal(first.validation.inputs, second.validation.inputs)
        assert not rows(first.validation) & rows(first.train)
        assert not rows(first.test) & (rows(first.train) | rows(first.validation))

    def test_fingerprint_names_the_content(self):
        assert data.load("digits").fingerprint == data.load("digits").fingerprint
        assert data.load("digits").fingerprint != data.load("digits", seed=1).fingerprint

    def test_only_training_batches_are_augmented(self, digits):
        generator = torch.Generator().manual_seed(0)
        index = torch.arange(20)
        plain, _ = digits.train.batch(index)
        assert not torch.equal(digits.train.batch(index, generator)[0], plain)
        held_out, _ = digits.validation.batch(index)
        assert torch.equal(digits.validation.batch(index, generator)[0], held_out)

    def test_calibration_comes_from_train_and_is_seeded(self, digits):
        first, second = digits.calibration(70, 32), digits.calibration(70, 32)
        assert [len(batch[1]) for batch in first] == [32, 32, 6]
        assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))
        assert not torch.equal(digits.calibration(70, 32, seed=1)[0][0], first[0][0])

    def test_epoch_covers_every_example_once_in_full_batches(self, digits):
        batches = digits.train.epoch(40, torch.Generator().manual_seed(0))
        assert [len(index) for index in batches] == [40] * 5
        assert torch.cat(batches).sort().values.tolist() == list(range(200))
        assert [len(i) for i in digits.train.epoch(999, torch.Generator())] == [200]
