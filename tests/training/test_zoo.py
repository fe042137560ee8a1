from __future__ import annotations

import json
import random
from collections import Counter

import pytest
import torch

from graphs.tools.files import read_tensors
from training import data, zoo
from training.store import CHECKPOINT
from training.zoo import Spec, registry

IMAGES = ("dense", "mlp", "plain", "residual", "separable", "vit")
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


def test_families_are_registered_for_their_inputs():
    assert zoo.families((1, 8, 8)) == IMAGES
    assert zoo.families((63,)) == ("llama",)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
@pytest.mark.parametrize("family", IMAGES)
def test_image_families(family, shape):
    seen = set()
    for seed in range(6):
        spec = zoo.sample(seed, shape, 10, (family,))
        model = zoo.build(spec).eval()
        assert model(torch.zeros(2, *shape)).shape == (2, 10)
        assert sum(p.numel() for p in model.parameters()) < 500_000
        seen.add(spec.to_json())
    assert len(seen) == 6


def test_language_family():
    for seed in range(4):
        model = zoo.build(zoo.sample(seed, (15,), 32)).eval()
        ids = torch.randint(32, (2, 15))
        assert model(input_ids=ids).logits.shape == (2, 15, 32)


@pytest.mark.parametrize("family", [*IMAGES, "llama"])
def test_a_specification_is_all_there_is(family):
    shape = (15,) if family == "llama" else (1, 8, 8)
    spec = zoo.sample(5, shape, 10, (family,))
    again = Spec.from_json(spec.to_json())
    assert again == spec == zoo.sample(5, shape, 10, (family,))
    torch.manual_seed(1)
    first = zoo.build(spec).state_dict()
    torch.manual_seed(2)
    second = zoo.build(again).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_seeds_draw_every_family_and_every_choice():
    specs = [zoo.sample(seed, (1, 8, 8), 10) for seed in range(400)]
    counts = Counter(spec.family for spec in specs)
    assert set(counts) == set(IMAGES)
    assert min(counts.values()) > 35
    residual = [spec.options for spec in specs if spec.family == "residual"]
    assert {options["shortcut"] for options in residual} == {"pad", "project"}
    assert {len(options["blocks"]) for options in residual} == {2, 3}


@pytest.mark.parametrize("count", [3, 5, 9])
def test_benchmark_networks_are_reserved(count, monkeypatch):
    taken = {"blocks": [count] * 3, "widths": [16, 32, 64], "shortcut": "pad"}
    free = {**taken, "widths": [12, 24, 48]}
    draws = iter([taken, {**taken, "shortcut": "project"}, free])
    stub = registry.Family("stub", lambda *a, **k: None, lambda rng, shape: next(draws), 3)
    monkeypatch.setitem(zoo.FAMILIES._things, "stub", stub)
    assert zoo.sample(0, (3, 32, 32), 10, ("stub",)).options == free


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match='unknown family "gan": expected one of dense'):
        zoo.sample(0, (1, 8, 8), 10, ("gan",))
    with pytest.raises(ValueError, match="takes inputs of 1 dimensions"):
        zoo.sample(0, (1, 8, 8), 10, ("llama",))
    with pytest.raises(ValueError, match=r"'mlp' cannot be built.*'depth'"):
        zoo.build(Spec("mlp", {"depth": 3}, (1, 8, 8), 10, 0))
    with pytest.raises(ValueError, match="not the specification"):
        Spec.from_json('{"family": "mlp"}')
    with pytest.raises(ValueError, match=r'unknown setting "familes" .did you mean "families"'):
        zoo.build_zoo({"folder": "x", "familes": ["mlp"]})


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


def test_sampling_uses_only_its_own_generator():
    random.seed(0)
    before = random.getstate()
    zoo.sample(3, (1, 8, 8), 10)
    assert random.getstate() == before
