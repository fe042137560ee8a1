"""A pruned network is pruned again: it saves, opens, replays, and is held against the dense one."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from functools import cache

import pytest
import torch

import metaprune
from pruners import Plan
from tests.metaprune.chains.networks import CHAINS, KINDS, SOURCES, build, outputs


@cache
def twice(kind: str, chain: str):
    """Both results; the second from the module of the first."""
    model, inputs = build(kind)
    found = []
    for options in CHAINS[chain]:
        each = metaprune.prune(model, inputs, metanet=None, **{"calibration": [inputs], **options})
        found.append(each)
        model = each.model
    return found, inputs


# Every kind with one chain, and every chain with one kind, are quick; the rest are for `slow`.
ONE = {
    "resnet": "channels twice",
    "vit": "channels, then 2:4",
    "llama": "masks, then low rank",
    "t5": "masks, then channels",
    "own": "blocks, then channels",
}
QUICK = {*ONE.items(), *(("own", chain) for chain in CHAINS)}
PAIRS = [
    pytest.param(kind, chain, marks=[] if (kind, chain) in QUICK else pytest.mark.slow)
    for kind in KINDS
    for chain in CHAINS
]


@pytest.mark.parametrize(("kind", "chain"), PAIRS)
def test_saved_and_opened_it_computes_the_same(tmp_path, kind, chain):
    (_, second), inputs = twice(kind, chain)
    folder = second.save(tmp_path / "twice", source=SOURCES.get(kind))
    opened = metaprune.load(folder, trust=True)
    torch.testing.assert_close(
        outputs(opened, inputs), outputs(second.model, inputs), rtol=1e-4, atol=1e-5
    )
    exported = type(second.model).__name__ == "GraphModule"
    assert type(opened) is type(second.model) or exported
    # What was opened knows where it comes from.
    third = metaprune.prune(opened, inputs, target={"params": "90%"}, metanet=None)
    assert len(third.plan.steps) == 3
    assert third.report["dense"] == second.report["dense"]


@pytest.mark.parametrize(("kind", "chain"), PAIRS)
def test_the_chain_replays_on_the_dense_network_and_on_another_checkpoint(kind, chain):
    (_, second), inputs = twice(kind, chain)
    plan = metaprune.Plan.from_json(second.plan.to_json())
    assert plan == second.plan
    assert [step.pattern for step in plan.steps] == [
        options.get("pattern", "channels") for options in CHAINS[chain]
    ]
    same = metaprune.apply(build(kind)[0], inputs, plan, calibration=[inputs])
    expected = second.model.state_dict()
    found = same.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert same.report["achieved"] == second.report["achieved"]
    other = metaprune.apply(build(kind, seed=1)[0], inputs, plan, calibration=[inputs])
    shapes = {name: value.shape for name, value in expected.items()}
    assert {name: value.shape for name, value in other.model.state_dict().items()} == shapes
    assert outputs(other.model, inputs).isfinite().all()


@pytest.mark.parametrize(("kind", "chain"), PAIRS)
def test_the_report_compares_with_the_dense_network(kind, chain):
    (first, second), inputs = twice(kind, chain)
    dense = metaprune.trace(build(kind)[0], inputs)
    one, two = first.report, second.report
    assert two["dense"] == one["dense"]
    assert two["dense"]["params"] == sum(p.numel() for p in build(kind)[0].parameters())
    assert two["achieved"]["speedup"] == two["dense"]["macs"] / two["achieved"]["macs"]
    if chain != "masks, then low rank":  # whose factors hold no zeros
        assert two["achieved"]["params"] < one["achieved"]["params"]
    nonzero = sum(
        int((p != 0).sum()) if name in second.masks else p.numel()
        for name, p in second.model.named_parameters()
    )
    assert two["achieved"]["params"] == nonzero
    sizes = {name: tensor.value.numel() for name, tensor in dense.tensors.items()}
    for layer in two["layers"]:
        of = dense.axes[layer["name"]].size if layer["name"] in dense.axes else None
        assert layer["of"] in (of, sizes.get(layer["name"]))
        assert layer["kept"] <= layer["of"]
    assert [step["pattern"] for step in two["steps"]] == [s.pattern for s in second.plan.steps]


@pytest.mark.parametrize(("kind", "chain"), PAIRS)
def test_masks_stay(kind, chain):
    (first, second), _ = twice(kind, chain)
    for name, mask in second.masks.items():
        assert (second.model.get_parameter(name)[~mask] == 0).all()
    if chain == "masks, then channels":
        assert second.masks.keys() == first.masks.keys() & dict(second.model.named_parameters())
        assert second.masks


def test_a_fresh_process_opens_all_of_them(tmp_path):
    for kind, chain in ONE.items():
        (_, second), inputs = twice(kind, chain)
        second.save(tmp_path / kind, source=SOURCES.get(kind))
        torch.save(
            {"inputs": inputs, "outputs": outputs(second.model, inputs)}, tmp_path / f"{kind}.pt"
        )
    code = (
        "import sys, torch, metaprune\n"
        "from pathlib import Path\n"
        "for file in sorted(Path(sys.argv[1]).glob('*.pt')):\n"
        "    held = torch.load(file, weights_only=True)\n"
        "    model, x = metaprune.load(file.with_suffix(''), trust=True), held['inputs']\n"
        "    with torch.no_grad():\n"
        "        y = model(**x) if isinstance(x, dict) else model(*x)\n"
        "    y = y if isinstance(y, torch.Tensor) else y.logits\n"
        "    torch.testing.assert_close(y, held['outputs'], rtol=1e-4, atol=1e-5)\n"
        "    print(file.stem)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == sorted(ONE)


def test_a_result_may_be_pruned_as_it_is():
    model, inputs = build("own")
    once = metaprune.prune(model, inputs, target={"macs": "80%"}, metanet=None)
    again = metaprune.prune(once, inputs, target={"macs": "80%"}, metanet=None)
    assert len(again.plan.steps) == 2
    assert again.report["dense"] == once.report["dense"]


def test_in_place_twice():
    model, inputs = build("resnet")
    dense = sum(p.numel() for p in model.parameters())
    for _ in range(2):
        result = metaprune.prune(model, inputs, target={"macs": "80%"}, metanet=None, inplace=True)
        assert result.model is model
    assert len(result.plan.steps) == 2
    assert result.report["dense"]["params"] == dense
    assert result.report["achieved"]["params"] == sum(p.numel() for p in model.parameters())


def test_a_mask_is_part_of_the_one_before_it():
    model, inputs = build("own")
    masks, model_now = {}, model
    for sparsity in (0.3, 0.5, 0.7):
        result = metaprune.prune(
            model_now, inputs, pattern="unstructured", target={"sparsity": sparsity}, metanet=None,
            calibration=[(torch.randn(64, 8),)],
        )  # fmt: skip
        for name, mask in masks.items():
            assert not (result.masks[name] & ~mask).any()
        masks, model_now = result.masks, result.model
        assert result.report["achieved"]["sparsity"] == pytest.approx(sparsity, abs=0.001)
        assert result.report["achieved"]["sparsity"] >= sparsity
    with pytest.raises(metaprune.UnreachableTargetError, match="what is gone stays gone"):
        metaprune.prune(
            model_now, inputs, pattern="unstructured", target={"sparsity": 0.5}, metanet=None
        )


def test_a_chain_is_readable_json():
    (_, second), _ = twice("own", "channels twice")
    content = json.loads(second.plan.to_json())
    assert set(content) == {"format", "steps"}
    assert [step["pattern"] for step in content["steps"]] == ["channels", "channels"]
    del content["steps"][1]["solver"]
    with pytest.raises(metaprune.PlanError, match="step 2 of the plan lacks the key"):
        metaprune.Plan.from_json(json.dumps(content))


@pytest.mark.parametrize("text", ['{"steps": []}', '{"steps": 3}', '{"steps": [3]}'])
def test_a_broken_chain_is_refused(text):
    with pytest.raises(metaprune.PlanError):
        metaprune.Plan.from_json(text)


def test_then_is_associative():
    (_, second), _ = twice("own", "channels twice")
    a, b = second.plan.steps
    assert a.then(b).then(a) == a.then(b.then(a))
    assert a.then(b) == second.plan


@pytest.mark.parametrize("how", ["a metanetwork", "training"])
def test_masks_hold_whatever_wrote_outside_of_them(how):
    model, inputs = build("own")
    sparse = metaprune.prune(
        model, inputs, pattern="unstructured", target={"sparsity": 0.5}, metanet=None
    )
    if how == "training":
        with torch.no_grad():
            for parameter in sparse.model.parameters():
                parameter.add_(0.01)
    metanet = None if how == "training" else "default"
    small = metaprune.prune(sparse.model, inputs, target={"macs": "70%"}, metanet=metanet)
    assert small.masks
    for name, mask in small.masks.items():
        assert not small.model.get_parameter(name)[~mask].any()
    assert any(note.startswith("Set to 0 again: ") for note in small.report["notes"])


def test_a_mask_alone_beside_factors_stays_part_of_the_one_before():
    model, inputs = build("own")
    sparse = metaprune.prune(model, inputs, pattern="2:4", metanet=None, calibration=[inputs])
    name = "blocks.0.up.weight"
    plan = Plan("sparse+low-rank", "sparse+low-rank", "manual", density={name: 0.6})
    both = metaprune.apply(sparse.model, inputs, plan, calibration=[inputs])
    assert both.masks[name].any()
    assert not both.model.get_parameter(name)[~sparse.masks[name]].any()


def test_a_module_that_was_changed_by_hand_has_no_chain_to_it():
    model, inputs = build("own")
    small = metaprune.prune(model, inputs, target={"macs": "70%"}, metanet=None).model
    small.head = torch.nn.Linear(small.head.in_features, 3)
    with pytest.raises(ValueError, match=r'"head\.weight" is not what it was.*copy\.deepcopy'):
        metaprune.prune(small, inputs, target={"macs": "90%"}, metanet=None)
    copied = copy.deepcopy(small)
    again = metaprune.prune(copied, inputs, target={"macs": "90%"}, metanet=None)
    assert again.plan.before is None


def test_in_place_asks_about_the_last_step_alone():
    model, inputs = build("own")
    thin = metaprune.prune(
        model, inputs, pattern="low-rank", target={"params": "70%"}, metanet=None
    ).model
    sparse = metaprune.prune(
        thin, inputs, pattern="unstructured", target={"sparsity": 0.3}, metanet=None, inplace=True
    )
    assert sparse.model is thin
    assert len(sparse.plan.steps) == 2
