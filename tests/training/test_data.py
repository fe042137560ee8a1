from __future__ import annotations

import datasets as hub
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training import data
from training.data import Split
from training.data.images import CropFlip, Normalise
from training.data.tasks import IGNORED
from training.data.text import windows


def rows(split: Split) -> set[bytes]:
    return {row.numpy().tobytes() for row in split.inputs}


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


class TestCifar10:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr(hub.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        rng = np.random.default_rng(0)
        pixels = {
            part: rng.integers(0, 256, (12, 32, 32, 3), np.uint8) for part in ("train", "test")
        }
        for part, images in pixels.items():
            table = hub.Dataset.from_dict(
                {"img": [Image.fromarray(i) for i in images], "label": [*range(10), 0, 1]},
                features=hub.Features({"img": hub.Image(), "label": hub.Value("int64")}),
            )
            table.to_parquet(tmp_path / f"{part}-00000-of-00001.parquet")
        return tmp_path, pixels

    def test_reads_a_local_folder_exactly(self, folder):
        path, pixels = folder
        loaded = data.load("cifar10", path=str(path), validation=2)
        assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (10, 2, 12)
        assert np.array_equal(loaded.test.inputs.numpy(), pixels["test"])
        assert loaded.test.targets.tolist() == [*range(10), 0, 1]
        stored = rows(loaded.train) | rows(loaded.validation)
        assert stored == {image.tobytes() for image in pixels["train"]}

    def test_the_cache_on_disk_gives_the_same(self, folder):
        path, _ = folder
        first = data.load("cifar10", path=str(path), validation=2)
        assert list(path.glob("cache/**/*.safetensors"))
        data.cifar10._decoded.cache_clear()
        assert data.load("cifar10", path=str(path), validation=2).fingerprint == first.fingerprint

    def test_folder_without_files(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"train-\*\.parquet"):
            data.load("cifar10", path=str(tmp_path))

    def test_wrong_columns(self, tmp_path, monkeypatch):
        monkeypatch.setattr(hub.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        table = hub.Dataset.from_dict({"image": [1], "label": [0]})
        table.to_parquet(tmp_path / "train-0.parquet")
        with pytest.raises(ValueError, match="lacks the column img"):
            data.load("cifar10", path=str(tmp_path))


class Letters:
    """A tokenizer whose tokens are letters."""

    def __init__(self, bos: int | None) -> None:
        self.bos_token_id = bos

    def encode(self, content: str, **options: object) -> list[int]:
        return [ord(letter) for letter in content]


class TestWindows:
    @given(st.text("abc", min_size=1, max_size=40), st.integers(2, 9))
    @settings(max_examples=40, deadline=None)
    def test_every_token_is_a_target_once_and_follows_its_predecessor(self, content, window):
        split = windows(content, Letters(bos=1), window)
        counted = split.targets != IGNORED
        assert split.targets[counted].tolist() == [ord(letter) for letter in content]
        assert (split.inputs[:, 0] == 1).all()
        assert torch.equal(
            split.inputs[:, 1:][counted[:, :-1]], split.targets[:, :-1][counted[:, :-1]]
        )
        assert split.bytes_per_token == 1.0

    def test_without_bos_the_first_token_of_a_window_is_only_read(self):
        split = windows("abcdef", Letters(bos=None), 3)
        assert split.inputs.tolist() == [[97, 98], [100, 101]]
        assert split.targets.tolist() == [[98, 99], [101, 102]]

    def test_missing_file(self, tmp_path, shared):
        tokenizer = str(shared / "models/stories260K")
        with pytest.raises(FileNotFoundError, match="does not exist"):
            data.load("text", train="absent.txt", test="absent.txt", tokenizer=tokenizer)


class TestRegistry:
    def test_all_are_registered(self):
        assert set(data.DATASETS) >= {"cifar10", "digits", "text"}

    def test_unknown_name_and_option(self):
        with pytest.raises(
            ValueError, match='unknown data set "mnist": expected one of cifar10, digits, text'
        ):
            data.load("mnist")
        with pytest.raises(
            ValueError,
            match=r'^data\.colour: unknown setting "colour": expected one of augment, train_size',
        ):
            data.load("digits", colour=True)

    def test_validation_must_leave_training_examples(self):
        split = Split(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64))
        with pytest.raises(ValueError, match="between 1 and 3"):
            data.hold_out(split, 4)
