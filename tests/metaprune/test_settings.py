"""Settings: every option once, refused at once where it makes no sense, the same everywhere."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import metaprune
from metaprune import Settings
from pruners import Target

NAMES = [entry.name for entry in fields(Settings)]


@st.composite
def settings(draw):
    return Settings(
        target=draw(st.sampled_from([None, {"macs": "50%"}, {"sparsity": 0.5, "params": "60%"}])),
        pattern=draw(st.sampled_from(["channels", "2:4", "block:4x4", "sparse+low-rank"])),
        min_units=draw(st.one_of(st.floats(0, 1), st.integers(1, 9))),
        round_to=draw(st.integers(1, 16)),
        metanet=draw(st.sampled_from([None, "default", "a/b.safetensors"])),
        budget=draw(st.sampled_from([None, "lamp", {"rule": "search", "seed": 1}, {"fc": 0.5}])),
        solver=draw(st.sampled_from([None, "wanda"])),
        recovery=draw(st.sampled_from([None, [], ["bias", {"finetune": {"epochs": 2}}]])),
        schedule=draw(st.sampled_from(["one-shot", {"iterative": {"steps": 2}}])),
    )


@given(settings())
def test_they_survive_json(found):
    assert Settings.of(**json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize("function", [metaprune.prune, metaprune.plan])
def test_the_face_shows_every_option_with_its_default(function):
    shown = inspect.signature(function).parameters
    for entry in fields(Settings):
        assert shown[entry.name].default == entry.default, entry.name
        assert shown[entry.name].kind is inspect.Parameter.KEYWORD_ONLY
    assert not any(p.kind is p.VAR_KEYWORD for p in shown.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_documented(name):
    text = inspect.getdoc(Settings)
    assert text is not None
    assert f"    {name}: " in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"taget": {"macs": "50%"}}, r'unknown setting "taget" \(did you mean "target"'),
        ({"min_units": "few"}, r"min_units takes a number .*got 'few'"),
        ({"round_to": 2.5}, r"round_to takes a whole number \(got 2.5\)"),
        ({"round_to": 0}, "round_to must be at least 1"),
        ({"min_units": -1}, r"^min_units must be a share from 0 to 1 or a number"),
        ({"min_units": float("nan")}, r"^min_units must be a share from 0 to 1 or a number"),
        ({"recovery": "refit"}, "recovery takes a list"),
        ({"pattern": 3}, "pattern takes text"),
        ({"metanet": 3}, "metanet takes text"),
        ({"target": {"mac": "50%"}}, r'unknown target "mac" \(did you mean "macs"'),
        ({"target": {"macs": "500%"}}, "up to 100"),
    ],
)
@pytest.mark.parametrize("function", [metaprune.prune, metaprune.plan])
def test_mistakes_are_refused_before_anything_runs(function, options, words):
    class Never(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("it ran")

    with pytest.raises(ValueError, match=words):
        function(Never(), (torch.ones(1),), **options)


def test_paths_and_parsed_targets_are_taken():
    found = Settings.of(metanet=Path("a/b.safetensors"), target=Target.parse({"macs": "50%"}))
    assert found.metanet == "a/b.safetensors"
    assert found.wanted == Target.parse({"macs": "50%"})


def test_plans_and_reports_hold_them_whole():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    result = metaprune.prune(
        model, (torch.randn(2, 8),), target={"macs": "60%"}, metanet=None, min_units=2
    )
    noted = result.plan.provenance["settings"]
    assert set(noted) == set(NAMES)
    assert noted["min_units"] == 2
    assert noted["target"] == {"macs": "60%"}
    assert noted["budget"] == "global"  # what the default stood for
    assert result.report["settings"] == noted
    again = metaprune.plan(model, (torch.randn(2, 8),), **noted)
    assert again.kept == result.plan.kept
