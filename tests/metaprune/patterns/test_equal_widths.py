"""Equal widths in all blocks: what transformers' own from_pretrained opens."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

import metaprune
from graphs import trace
from metaprune.patterns import ties
from metaprune.saving import transformers as plain
from pruners import Target, UnreachableTargetError, measure, units
from tests.oracles.networks.language import LANGUAGE_MODELS, language_model

EQUAL = {"pattern": "equal-widths", "metanet": None}
IDS = {"input_ids": torch.arange(14).reshape(2, 7) * 3 % 30}


def widths(model):
    """Shapes of the parameters of every block, with how many blocks have them."""
    found: dict[str, Counter] = {}
    for name, parameter in model.named_parameters():
        place = ".".join("*" if part.isdigit() else part for part in name.split("."))
        found.setdefault(place, Counter())[tuple(parameter.shape)] += 1
    return found


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("name", [name for name in LANGUAGE_MODELS if name != "Mixtral"])
def test_plain_from_pretrained_opens_it(tmp_path, name):
    from transformers import AutoModelForCausalLM

    model = language_model(name)
    result = metaprune.prune(model, IDS, target={"macs": "75%"}, **EQUAL)
    assert type(result.model) is type(model)
    assert result.report["achieved"]["speedup"] >= 1 / 0.75
    assert all(len(shapes) == 1 for shapes in widths(result.model).values())
    folder = result.save(tmp_path / "small")
    expected = logits(result.model, IDS)
    for opened in (AutoModelForCausalLM.from_pretrained(folder), metaprune.load(folder)):
        assert type(opened) is type(model)
        # One ε is configured for all norms, and only those over the hidden size follow it.
        torch.testing.assert_close(logits(opened, IDS), expected, rtol=1e-5, atol=1e-5)
    assert "from_pretrained" in (folder / "README.md").read_text()


def test_experts_are_equal_too():
    model = language_model("Mixtral")
    result = metaprune.prune(model, IDS, target={"macs": "75%"}, **EQUAL)
    assert all(len(shapes) == 1 for shapes in widths(result.model).values())


def test_other_widths_come_back_with_our_loader(tmp_path):
    from transformers import AutoModelForCausalLM

    net = trace(language_model("Qwen3"), IDS)
    axes = [name for name in net.axes if name.endswith("gate_proj.out")]
    kept = {axes[0]: torch.arange(15), axes[1]: torch.arange(9)}
    plan = metaprune.Plan("channels", "magnitude", "global", kept=metaprune.Plan.keeping(net, kept))
    result = metaprune.apply(language_model("Qwen3"), IDS, plan)
    assert result.report["varied"] == {
        "intermediate_size": {"model.layers.0.mlp": 15, "model.layers.1.mlp": 9}
    }
    folder = result.save(tmp_path / "small")
    for opened in (AutoModelForCausalLM.from_pretrained(folder), metaprune.load(folder)):
        assert torch.equal(logits(opened, IDS), logits(result.model, IDS))


@pytest.mark.parametrize("name", ["Llama", "GPT2"])
def test_whatever_differs_between_layers_is_saved(tmp_path, name):
    """The class validates configurations on writing, and asks for widths that are of no layer."""
    net = trace(language_model(name), IDS)
    first = {a.kind: a for a in net.axes.values() if a.frozen is None and ".0." in a.name}
    assert {"head", "head feature"} < set(first)
    for number, axis in enumerate(first.values()):
        kept = {axis.name: torch.arange(max(axis.size // 2, axis.minimum))}
        kept = metaprune.Plan.keeping(net, kept)
        plan = metaprune.Plan("channels", "magnitude", "global", kept=kept)
        result = metaprune.apply(language_model(name), IDS, plan)
        opened = metaprune.load(result.save(tmp_path / f"small-{number}"))
        assert torch.equal(logits(opened, IDS), logits(result.model, IDS)), axis.name


def test_a_real_model_opens_plainly(tmp_path):
    from transformers import AutoModelForCausalLM

    root = os.environ.get("METAPRUNE_DATA")
    if not root or not (Path(root) / "models" / "stories260K").is_dir():
        pytest.skip("set METAPRUNE_DATA to a folder with models/stories260K")
    model = AutoModelForCausalLM.from_pretrained(Path(root) / "models" / "stories260K").eval()
    inputs = {"input_ids": torch.arange(32).reshape(2, 16) * 7 % 512}
    result = metaprune.prune(model, inputs, target={"macs": "70%"}, **EQUAL)
    assert 0.66 < result.report["achieved"]["macs"] / result.report["dense"]["macs"] <= 0.7
    opened = AutoModelForCausalLM.from_pretrained(result.save(tmp_path / "small"))
    assert torch.equal(logits(opened, inputs), logits(result.model, inputs))


@pytest.mark.parametrize("scope", ["global", "uniform"])
@pytest.mark.parametrize("round_to", [1, 4])
def test_any_network_keeps_equally_many_units_in_its_blocks(scope, round_to):
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.down(self.up(x).relu())

    model = nn.Sequential(nn.Linear(6, 8), *(Block() for _ in range(4)), nn.Linear(8, 3)).eval()
    net = trace(model, (torch.randn(2, 6),))
    scores = units.base_scores(net)
    target = Target.parse({"macs": "60%"})
    kept = ties.select_tied(net, scores, target, scope, round_to=round_to)
    counts = {name: len(index) for name, index in kept.items()}
    inner = {counts[name] for name in counts if name.endswith("up.out")}
    assert len(inner) == 1
    assert inner.pop() % round_to == 0
    assert measure(net, counts)["macs"] <= 0.6 * measure(net)["macs"]
    for name, index in kept.items():
        worst = scores[name][index].min()
        gone = scores[name][~torch.isin(torch.arange(net.axes[name].size), index)]
        assert (gone <= worst).all()


def test_heads_and_the_hidden_size_go_together_where_the_class_ties_them():
    """GPT-2 has no head size in its configuration: it is the hidden size over the heads."""
    net = trace(language_model("GPT2"), IDS)
    scores = units.base_scores(net)
    names = [n for n in scores if net.axes[n].kind != "head feature"]
    found = ties.ties(net, names)
    hidden = next(tie for tie in found if "transformer.wte.out.2" in tie.units)
    assert hidden.units["transformer.wte.out.2"] == 4
    assert sum(net.axes[name].kind == "head" for name in hidden.units) == 2
    inner = next(tie for tie in found if any("mlp" in name for name in tie.units))
    assert len(inner.units) == 2


def test_a_width_that_the_class_turns_into_a_number_is_left_alone():
    """Gemma scales its embeddings by the square root of the hidden size it is built with."""
    net = trace(language_model("Gemma2"), IDS)
    stream = next(name for name in net.axes if name.startswith("model.embed_tokens.out.2"))
    small = plain.resized(net, {stream: 12})
    assert plain.plain_config(net) is not None
    assert plain.plain_config(small) is None
    assert not any(stream in tie.units for tie in ties.ties(net, [stream]))


def test_out_of_reach_is_refused(monkeypatch):
    with pytest.raises(UnreachableTargetError, match="out of reach"):
        metaprune.plan(
            language_model("Gemma2"),
            IDS,
            target={"macs": "5%"},
            metanet=None,
            pattern="equal-widths",
        )
    monkeypatch.setattr(ties, "ties", lambda *_: [])
    with pytest.raises(UnreachableTargetError, match="no configuration of Gemma2ForCausalLM"):
        metaprune.plan(
            language_model("Gemma2"),
            IDS,
            target={"macs": "90%"},
            metanet=None,
            pattern="equal-widths",
        )


def test_the_command_takes_it(tmp_path, capsys):
    from metaprune.cli.main import main

    main(
        [
            "prune",
            "target.macs=60%",
            "data.train_size=64",
            "metanet=null",
            "budget=global",
            "compare=[]",
            "pattern=equal-widths",
            "export=pt2",
            "latency.batch_size=0",
            "calibration.examples=0",
            f"hydra.run.dir={tmp_path / 'run'}",
        ]
    )
    (folder,) = (tmp_path / "run").glob("model-*/")
    assert (folder / "model.pt2").is_file()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert any("Exported as model.pt2" in note for note in report["entries"][0]["notes"])
    capsys.readouterr()
