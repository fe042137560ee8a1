from __future__ import annotations

import json
from collections import Counter

import pytest
import torch

from graphs.tools.files import read_tensors
from training import data, zoo
from training.store import CHECKPOINT

FIT = {"epochs": 1, "batch_size": 100, "lr": 0.05}


def config(folder, **changes):
    options = {"members": 3, "held_out": 2, "families": ("mlp", "plain")}
    return {"folder": str(folder), "data": {"name": "digits", "train_size": 100}, "fit": FIT,
            **options, **changes}  # fmt: skip


def weights(folder):
    return {
        str(path.relative_to(folder)): read_tensors(path)[0]
        for path in sorted(folder.glob("**/model.safetensors"))
    }


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert all(torch.equal(first[name][key], second[name][key]) for key in first[name])


class TestBuilding:
    def test_members_load_as_trained(self, tmp_path):
        from training import evaluate

        built = zoo.build_zoo(config(tmp_path))
        assert [m.spec.family for m in built] == ["mlp", "plain", "mlp", "mlp", "plain"]
        digits = data.load("digits", train_size=100)
        for part, count in (("train", 3), ("held_out", 2)):
            found = zoo.members(tmp_path, part)
            assert len(found) == count
            for member in found:
                assert member.held_out == (part == "held_out")
                model = member.load()
                assert not model.training
                assert evaluate(model, digits, "validation") == member.metrics["best"]
                assert member.metrics["data"]["fingerprint"] == digits.fingerprint
                assert not (member.folder / CHECKPOINT).exists()

    def test_held_out_members_share_neither_seed_nor_architecture(self, tmp_path):
        plans = registry_plans(tmp_path, members=40, held_out=40)
        assert len({spec.seed for _, spec in plans}) == 80
        assert len({spec.family + json.dumps(spec.options) for _, spec in plans}) == 80
        assert Counter(path.parent.name for path, _ in plans) == {"train": 40, "held_out": 40}

    def test_a_larger_zoo_contains_the_smaller(self, tmp_path):
        small, large = registry_plans(tmp_path, members=4), registry_plans(tmp_path, members=9)
        assert small[:4] == large[:4]

    def test_an_interrupted_zoo_continues(self, tmp_path, monkeypatch):
        zoo.build_zoo(config(tmp_path / "whole"))
        original, calls = zoo.builder.fit, []

        def failing(*args, **kwargs):
            calls.append(args)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        monkeypatch.setattr(zoo.builder, "fit", failing)
        with pytest.raises(KeyboardInterrupt):
            zoo.build_zoo(config(tmp_path / "parts"))
        assert len(weights(tmp_path / "parts")) == 2
        zoo.build_zoo(config(tmp_path / "parts"))
        assert len(calls) == 3 + 3
        assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))

    @pytest.mark.slow
    def test_workers_change_nothing(self, tmp_path):
        zoo.build_zoo(config(tmp_path / "one"))
        built = zoo.build_zoo(config(tmp_path / "two", workers=2))
        assert len(built) == 5
        assert_same(weights(tmp_path / "one"), weights(tmp_path / "two"))

    def test_incomplete_members_are_not_members(self, tmp_path):
        (built, *_) = zoo.build_zoo(config(tmp_path, members=1, held_out=0))
        (built.folder / "model.safetensors").write_bytes(b"damaged")
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            zoo.load_member(built.folder).load()
        (built.folder / "metrics.json").unlink()
        with pytest.raises(FileNotFoundError, match=r"lacks metrics\.json"):
            zoo.load_member(built.folder)
        with pytest.raises(FileNotFoundError, match="no train members"):
            zoo.members(tmp_path)

    def test_nothing_is_left_half_written(self, tmp_path, monkeypatch):
        from graphs.tools import files

        def full_disk(tensors, path, **kwargs):
            path.write_bytes(b"half")
            raise OSError("No space left on device")

        monkeypatch.setattr(files, "save_file", full_disk)
        with pytest.raises(OSError, match="No space left"):
            zoo.build_zoo(config(tmp_path, members=1))
        assert [p for p in tmp_path.glob("**/*") if p.is_file()] == []


def registry_plans(folder, **changes):
    settings = zoo.ZooConfig(**config(folder, **{"families": None, **changes}))
    return zoo.builder.plan_zoo(settings, data.load("digits"))
