"""An inspection needs no weights and says what it saw; the command shows and saves it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import metaprune
from graphs import TraceError, trace
from graphs.cost import count_macs, count_params
from metaprune.inspection import Inspection
from metaprune.inspection.facts.groups import floors
from tests.oracles.networks.families import build
from training.networks import cifar_resnet


def test_the_reachable_range_can_be_built(resnet):
    model, inputs = cifar_resnet(20), (torch.randn(2, 3, 32, 32),)
    net = trace(model, inputs)
    least = floors(net, 0.05)
    small = net.remove({n: range(k, net.axes[n].size) for n, k in least.items()})
    assert resnet.reachable["params"] == (count_params(small), count_params(net))
    assert resnet.reachable["macs"] == (count_macs(small), count_macs(net))
    assert resnet.reachable["speedup"][1] == pytest.approx(count_macs(net) / count_macs(small))
    assert resnet.reachable["sparsity"][0] == 0
    assert resnet.reachable["units"] == (sum(least.values()), resnet.cost["units"])
    assert set(resnet.reachable) == {"macs", "params", "size_mb", "units", "sparsity", "speedup"}


@pytest.mark.parametrize("ignore", [["linear"], ["layer3*"], ["layer2", "layer3.2"], ["conv1"]])
def test_what_is_ignored_is_left_alone_as_in_a_pruning(ignore):
    model, images = cifar_resnet(20), (torch.randn(2, 3, 32, 32),)
    found = metaprune.inspect(model, images, ignore=ignore)
    plan = metaprune.plan(
        model, images, ignore=ignore, target={"units": found.reachable["units"][0]},
        budget="uniform",
    )  # fmt: skip
    named = next(one for one in found.left_alone if one.reason == "ignored, as asked")
    assert {group.axis for group in found.groups} >= set(plan.kept)
    assert not set(named.axes) & set(plan.kept)
    with pytest.raises(ValueError, match=r'class "layer33" \(did you mean "layer3"'):
        metaprune.inspect(model, images, ignore=["layer33"])


def test_no_weights_are_needed():
    with torch.device("meta"):
        model = cifar_resnet(20)
    found = metaprune.inspect(model, (torch.empty(2, 3, 32, 32, device="meta"),))
    real = metaprune.inspect(cifar_resnet(20), (torch.randn(2, 3, 32, 32),))
    assert found.groups == real.groups
    assert found.reachable == real.reachable
    assert found.check == real.check
    assert any("meta device" in note for note in found.notes)
    with pytest.raises(ValueError, match="meta device"):
        metaprune.inspect(model, (torch.empty(2, 3, 32, 32, device="meta"),), latency=2)


def test_a_transformers_configuration_is_enough(run, tmp_path):
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=50, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    config.save_pretrained(tmp_path / "only")
    hf = ["model=hf", f"model.path={tmp_path / 'only'}", "model.meta=true"]
    code, out, errors = run("inspect", "--json", *hf, "inputs={input_ids: [1, 12]}")
    assert code == 0, errors
    found = Inspection.from_json(out)
    assert found.inputs == "int64[1, 12]"
    assert found.check.agrees
    assert {g.units for g in found.groups if g.axis.endswith("mlp.gate_proj.out")} == {96}


def test_a_wrapper_is_looked_through():
    model, inputs = build("mlp")
    assert metaprune.inspect(nn.DataParallel(model), inputs).groups[0].axis == "0.out"


def test_a_model_that_cannot_be_traced_is_refused():
    with pytest.raises(TraceError, match="does not run"):
        metaprune.inspect(nn.Linear(3, 3), (torch.ones(1, 4),))


def test_the_command_writes_its_folder_and_says_where(run):
    code, out, errors = run("inspect", "model=resnet20", "model.path=null", "out=found")
    assert code == 0, errors
    assert "found/inspection.html" in out
    code, _, errors = run("inspect", "model=resnet20", "model.path=null", "out=found")
    assert code == 1
    assert "exists and is not empty" in errors
    code, _, errors = run(
        "inspect", "model=function", "model.function=torch.nn:Linear",
        "+model.options.in_features=2", "+model.options.out_features=2",
    )  # fmt: skip
    assert code == 1
    assert "inputs=[" in errors


def test_expected_losses_are_told_on_calibration_data(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4)).eval()
    x = torch.randn(64, 6)
    found = metaprune.inspect(model, (x[:2],), calibration=[(x,)])
    assert set(found.expected["weights"]) == {"0.weight", "2.weight"}
    (axis,) = found.expected["units"]
    assert axis in {group.axis for group in found.groups}
    for part in ("units", "weights"):
        for curve in found.expected[part].values():
            assert curve["losses"] == sorted(curve["losses"], reverse=True)
            assert curve["losses"][-1] == 0
    assert found.expected["unreached"] == {}
    assert Inspection.from_json(found.to_json()) == found
    text = str(found)
    assert "What pruning is expected to lose" in text
    assert "0.weight" in text.split("weights that stay")[1]
    page = (found.save(tmp_path / "folder") / "inspection.html").read_text()
    assert page.count("<svg") == 3
    assert "units that stay" in page


def test_without_calibration_no_loss_is_expected(resnet):
    assert resnet.expected == {}
    assert "What pruning is expected to lose" not in str(resnet)


def test_what_no_gradient_reaches_is_named():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.b(self.a(x).relu().detach())

    found = metaprune.inspect(Cut(), (torch.randn(2, 6),), calibration=[(torch.randn(64, 6),)])
    assert list(found.expected["unreached"]) == ["a.weight"]
    assert "No gradient reaches 1 weight (a.weight)" in str(found).replace("\n", " ").replace(
        "  ", " "
    )
