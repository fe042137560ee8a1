"""Metanetworks by name, to a file and back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import metanet
from tests.metanet.conftest import SMALL, assert_same, evidence, flat, network, trained

SHIPPED = Path(__file__).parents[2] / "metaprune/pretrained/default.safetensors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", list(SMALL))
def test_what_is_saved_is_loaded(kind, dtype, tmp_path):
    net, meta, path = network("resnet_option_a", dtype), trained(kind, dtype), tmp_path / "m.st"
    metanet.save(meta, path)
    back = metanet.load(path)
    assert type(back) is type(meta)
    assert back.config == meta.config
    assert not back.training
    assert os.listdir(tmp_path) == ["m.st"]
    with torch.no_grad():
        assert_same(meta(net, None, 0.5), back(net, None, 0.5), atol=0)


def test_defaults_are_in_the_configuration():
    for name in metanet.METANETWORKS:
        config = metanet.build({"name": name}).config
        assert metanet.build(config).config == config
        assert json.loads(json.dumps(config)) == config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "a metanetwork needs a 'name', one of "),
        ({"name": "streming"}, r'unknown metanetwork "streming" \(did you mean "streaming"\?\)'),
        (
            {"name": "streaming", "hiden": 3},
            r'unknown option of the metanetwork "streaming" "hiden" \(did you mean "hidden"\?\)',
        ),
        ({"name": "streaming", "layer": "x"}, 'unknown layer "x": expected one of messages'),
        (
            {"name": "streaming", "weights": "x"},
            'unknown weight head "x": expected',
        ),
        ({"name": "streaming", "logits": "x"}, 'unknown logit head "x": expected one of mlp'),
        ({"name": "streaming", "hidden": 30}, "'heads' must be even and divide 'hidden'"),
    ],
)
def test_configurations_that_mean_nothing_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        metanet.build(config)


def test_files_that_are_no_metanetwork_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(FileNotFoundError, match="no metanetwork at"):
        metanet.load(path)
    metanet.save(trained("streaming"), path)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"garbage" * 100):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            metanet.load(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="holds no metanetwork"):
        metanet.load(path)


def test_weights_that_do_not_fit_the_configuration_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    meta = trained("streaming")
    for change in ({"hidden": 8}, {"name": "gone"}, {"width": 1}):
        metadata = {"metanetwork": json.dumps(meta.config | change)}
        save_file({n: t.contiguous() for n, t in meta.state_dict().items()}, path, metadata)
        with pytest.raises(ValueError, match="do not fit its configuration"):
            metanet.load(path)
    save_file({"a": torch.zeros(2)}, path, {"metanetwork": "{not json"})
    with pytest.raises(ValueError, match="do not fit its configuration"):
        metanet.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    metanet.save(trained("streaming"), path)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graphs.tools.files.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        metanet.save(trained("streaming"), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_the_shipped_metanetwork_says_what_it_always_said():
    """Sums over the outputs, as its weights gave them when they were trained."""
    meta = metanet.load(SHIPPED)
    for name, expected in (("mlp", 93.233857), ("resnet_option_a", 1463.168724)):
        net = network(name, torch.float32)
        with torch.no_grad():
            out = flat(meta(net, evidence(net), 0.5))
        found = sum(float(value.double().abs().sum()) for value in out.values())
        assert found == pytest.approx(expected, rel=1e-5)
