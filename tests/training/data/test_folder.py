"""Folders by class: what is read, in which order, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from training import data


@pytest.fixture
def folder(tmp_path):
    for part, count in (("train", 6), ("val", 2)):
        for shade, label in enumerate(("bee", "ant")):
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(count):
                pixels = np.full((20, 30, 3), 100 * shade + i, np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / label / f"{i}.png")
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    return tmp_path


def test_classes_are_by_name_and_images_are_cut_from_the_middle(folder):
    loaded = data.load("images", path=str(folder), size=8, resize=10, validation=2)
    assert loaded.shape == (3, 8, 8)
    assert loaded.outputs == 2
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (10, 2, 4)
    assert loaded.test.targets.tolist() == [0, 0, 1, 1]  # ant before bee
    assert loaded.test.inputs[:, 0, 0, 0].tolist() == [100, 101, 0, 1]


@pytest.mark.parametrize("count", [3, 4, 11])
def test_fewer_images_are_of_all_classes_in_turn(folder, count):
    loaded = data.load("images", path=str(folder), size=8, resize=8, train_size=count, validation=1)
    labels = torch.cat([loaded.train.targets, loaded.validation.targets])
    assert len(labels) == count
    assert abs(2 * int(labels.sum()) - count) <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [({"size": 9, "resize": 8}, "size must lie"), ({"path": "nowhere"}, "holds no train/CLASS")],
)
def test_what_cannot_be_read_is_refused(folder, options, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        data.load("images", **{"path": str(folder), **options})


def test_a_class_without_training_images_is_refused(folder):
    (folder / "val" / "cat").mkdir()
    Image.new("RGB", (9, 9)).save(folder / "val" / "cat" / "0.png")
    with pytest.raises(ValueError, match="'cat'"):
        data.load("images", path=str(folder), size=8, resize=8, validation=1)
