"""A head from outside: meta-trained, written to a file, and asked by a pruning."""

from __future__ import annotations

import pytest
import torch

import metanet
import metaprune
from tests.extensions.networks import SOURCE, ZOO, batches, mlp
from training.meta import meta_train, subjects_of
from training.zoo import build_zoo

CONFIG = {"name": "streaming", "hidden": 8, "layers": 1, "heads": 2, "logits": "linear"}
EXAMPLE = (batches()[0],)


def test_a_fresh_metanetwork_with_it_leaves_every_network_as_it_is(add):
    made = add("metanetwork head")
    meta = metanet.build(CONFIG)
    assert isinstance(meta.unit_head, made.Linear)
    net = metaprune.trace(mlp(), EXAMPLE)
    advice = meta(net, None, 0.5)
    assert all(torch.equal(v, net.tensors[name].value) for name, v in advice.values.items())
    assert not any(logits.any() for logits in advice.unit_logits.values())


def test_it_learns_is_saved_and_prunes(add, reopened, tmp_path):
    add("metanetwork head")
    build_zoo({**ZOO, "folder": str(tmp_path / "zoo"), "families": ["mlp"]})
    subjects = [subjects_of([tmp_path / "zoo"], part) for part in ("train", "held_out")]
    meta = metanet.build(CONFIG)
    settings = {"steps": 3, "networks": 1, "batch_size": 32, "judge_every": 3, "lr": 0.1}
    meta_train(meta, *subjects, settings)
    assert any(parameter.any() for parameter in meta.unit_head.parameters())
    file = tmp_path / "mine.safetensors"
    metanet.save(meta, file)
    result = metaprune.prune(mlp(), EXAMPLE, target={"macs": "50%"}, metanet=str(file))
    assert result.plan.budget == "metanet"
    assert result.report["achieved"]["macs"] <= result.report["dense"]["macs"] / 2
    reopened(result, source=SOURCE)
    with metanet.LOGIT_HEADS.scoped():
        assert metanet.load(file).config == {**meta.config}


def test_without_its_module_the_file_says_what_is_missing(write, tmp_path):
    with metanet.LOGIT_HEADS.scoped():
        __import__(write("metanetwork head"))
        metanet.save(metanet.build(CONFIG), tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match='unknown logit head "linear"'):
        metanet.load(tmp_path / "mine.safetensors")
