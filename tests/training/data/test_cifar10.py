from __future__ import annotations

import datasets as hub
import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.data.conftest import rows
from training import data


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

    @pytest.mark.parametrize("size", [16, 8, 1])
    def test_smaller_images_are_rounded_means_of_squares(self, folder, size):
        path, pixels = folder
        loaded = data.load("cifar10", path=str(path), validation=2, size=size)
        side = 32 // size
        assert loaded.shape == (3, size, size)
        assert loaded.test.inputs.shape == (12, size, size, 3)
        square = pixels["test"][3, -side:, :side, 1].astype(np.float32)
        assert int(loaded.test.inputs[3, -1, 0, 1]) == int(np.round(square.mean()))
        shifted, _ = loaded.train.batch(torch.arange(4), torch.Generator().manual_seed(0))
        assert shifted.shape == (4, 3, size, size)

    @pytest.mark.parametrize("size", [0, 12, 64])
    def test_a_size_that_no_square_gives(self, folder, size):
        with pytest.raises(ValueError, match="divisor of 32"):
            data.load("cifar10", path=str(folder[0]), validation=2, size=size)

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
