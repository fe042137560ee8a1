"""Triples: budgets on their target, damage that can be measured again, runs that continue."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pruners import Target
from pruners.curves import ExpectedLoss
from training.meta import subjects_of
from training.triples import TriplesConfig, measure_triples, triples
from training.triples.store import CASE, JOURNAL
from training.zoo import build_zoo

TARGETS = (
    {"pattern": "channels", "macs": "60%"},
    {"pattern": "unstructured", "sparsity": 0.7},
)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoos") / "digits"
    build_zoo(
        {
            "folder": str(folder),
            "members": 1,
            "held_out": 1,
            "families": ("plain",),
            "fit": {"epochs": 1, "lr": 0.05, "batch_size": 50},
        }
    )
    return folder


def settings(zoo, folder, **more):
    given = {"budgets": 7, "examples": 64, "judged": 96, "batch_size": 32, "targets": TARGETS}
    return TriplesConfig(str(folder), **{"zoos": [str(zoo)], **given, **more})


@pytest.fixture(scope="module")
def measured(zoo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("triples")
    return folder, measure_triples(settings(zoo, folder), {"metaprune": "test"})


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.json*"))
    }


def test_every_network_and_target_is_a_case_that_is_read_as_it_was_measured(measured):
    folder, found = measured
    assert len(found) == 4
    again = triples([folder])
    assert {(one.member, one.pattern) for one in again} == {
        (one.member, one.pattern) for one in found
    }
    for one in again:
        assert one.choices.shape == (7, len(one.dials))
        assert len({tuple(choice) for choice in one.choices.tolist()}) == 7
        assert (one.damage > 0).all()
        assert one.record["versions"] == {"metaprune": "test"}
        assert one.named["expected loss"] == 0
        assert one.family == "plain"
        value = one.value()
        assert torch.allclose(value.losses([one.whole]), torch.tensor(1e-12).double())


def test_all_budgets_meet_the_target(zoo, measured):
    nets = {s.name: s.net for part in ("train", "held_out") for s in subjects_of([zoo], part)}
    for one in measured[1]:
        net = nets[one.member]
        for choice in one.choices.tolist():
            if one.pattern == "channels":
                widths = dict(zip(one.dials, choice, strict=True))
                limits = Target.parse(one.asked).limits(net)
                assert all(count(net, widths) <= limit for count, limit in limits.items())
            else:
                assert sum(choice) == int(0.3 * sum(one.whole) + 1e-9)


def test_an_interrupted_run_continues_to_the_same(zoo, measured, tmp_path, monkeypatch):
    after, calls = ExpectedLoss.after, []

    def interrupted(self, kept):
        calls.append(kept)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return after(self, kept)

    with monkeypatch.context() as patch:
        patch.setattr(ExpectedLoss, "after", interrupted)
        with pytest.raises(KeyboardInterrupt):
            measure_triples(settings(zoo, tmp_path), {"metaprune": "test"})
    assert contents(tmp_path) != contents(measured[0])
    measure_triples(settings(zoo, tmp_path), {"metaprune": "test"})
    assert contents(tmp_path) == contents(measured[0])


def test_parts_are_the_whole(zoo, measured, tmp_path):
    for part in range(2):
        measure_triples(settings(zoo, tmp_path, part=part, parts=2), {"metaprune": "test"})
    assert contents(tmp_path) == contents(measured[0])


def test_what_is_there_is_not_measured_again(zoo, measured, monkeypatch):
    monkeypatch.setattr(ExpectedLoss, "sides", None)
    assert len(measure_triples(settings(zoo, measured[0]))) == 4


def test_other_settings_are_refused_in_the_same_folder(zoo, measured):
    with pytest.raises(ValueError, match="other settings"):
        measure_triples(replace(settings(zoo, measured[0]), seed=1))


def copied(measured, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(measured[0], folder)
    return folder, next(path for path in folder.rglob(CASE) if "channels" in str(path)).parent


def test_another_network_or_target_of_the_same_name_is_refused(zoo, measured, tmp_path):
    folder, case = copied(measured, tmp_path)
    with pytest.raises(ValueError, match=r"was measured for \{'macs': '60%'\}"):
        measure_triples(settings(zoo, folder, targets=[{"pattern": "channels", "macs": 60}]))
    told = json.loads((case / CASE).read_text())
    told["fingerprints"]["weights"] = "others"
    (case / CASE).write_text(json.dumps(told))
    with pytest.raises(ValueError, match="was measured on another network of this name"):
        measure_triples(settings(zoo, folder))


@pytest.mark.parametrize("left", ["nothing", "a part of the first line", "a part of the last line"])
def test_a_journal_that_was_cut_off_anywhere_continues(zoo, measured, tmp_path, left):
    folder, case = copied(measured, tmp_path)
    text = (case / JOURNAL).read_text()
    (case / CASE).unlink()
    end = {"nothing": 0, "a part of the first line": 7, "a part of the last line": len(text) - 9}
    (case / JOURNAL).write_text(text[: end[left]])
    measure_triples(settings(zoo, folder), {"metaprune": "test"})
    assert contents(folder) == contents(measured[0])


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_a_case_without_all_of_its_journal_is_named(measured, tmp_path, lines):
    _, case = copied(measured, tmp_path)
    whole = (case / JOURNAL).read_text().splitlines(keepends=True)
    (case / JOURNAL).write_text("".join(whole[:lines]))
    with pytest.raises(ValueError, match="no triples that can be read"):
        triples([case])


@pytest.mark.parametrize("damage", ["{", json.dumps({"member": "x"})])
def test_damaged_cases_are_named(measured, tmp_path, damage):
    (tmp_path / CASE).write_text(damage)
    (tmp_path / JOURNAL).write_text("")
    with pytest.raises(ValueError, match="no triples that can be read"):
        triples([tmp_path])


def test_a_folder_without_triples_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="metaprune triples"):
        triples([tmp_path])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"budgets": 0}, "budgets must be"),
        ({"part": 2, "parts": 2}, "part must be"),
        ({"targets": [{"macs": "50%"}]}, "names its pattern"),
        ({"targets": [{"pattern": "channels"}]}, "names its pattern"),
        ({"targets": [{"pattern": "2:4", "sparsity": 0.5}]}, "leaves no budget"),
        ({"targets": []}, "asks for nothing"),
        ({"zoos": "zoo"}, "takes a list of folders"),
        ({"zoos": []}, "zoos names no folder"),
        ({"examples": 100_000}, "too few examples"),
        ({"examples": 33}, "examples must be whole batches of 32"),
        ({"judged": 1}, "judged must be whole batches of 32"),
    ],
)
def test_what_makes_no_sense_is_refused(zoo, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        measure_triples(settings(zoo, tmp_path, **changes))
    assert not list(tmp_path.rglob(CASE))
